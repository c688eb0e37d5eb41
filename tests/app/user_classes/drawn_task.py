"""A user's task that tests draw: strokes in folders of classes, and the commands on them."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = {
    "cross": [((4, 20), (36, 20)), ((20, 4), (20, 36))],
    "line": [((4, 36), (36, 4))],
    "hook": [((8, 4), (8, 34)), ((8, 34), (32, 34))],
    "roof": [((4, 34), (20, 6)), ((20, 6), (36, 34))],
}


def draw(root: Path, sizes: dict[str, int], seed: int) -> Path:
    """Dark strokes on light paper, 40x40, a little moved; one format after another."""
    rng = np.random.default_rng(seed)
    for name, size in sizes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(size):
            image = Image.new("L", (40, 40), 235)
            for start, end in SHAPES[Path(name).name]:
                dx, dy = rng.integers(-2, 3, 2)
                moved = [(x + dx, y + dy) for x, y in (start, end)]
                ImageDraw.Draw(image).line(moved, fill=20, width=4)
            image.save(root / name / f"{i}.{('png', 'jpg', 'webp')[i % 3]}")
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def predict(run, checkpoint: str, task: Path, *options: str):
    return run(
        "predict", "--ckpt_path", checkpoint, "--data", "SupportQuery", "--data.support", str(task / "support"),
        "--data.query", str(task / "query"), *options,
    )  # fmt: skip
