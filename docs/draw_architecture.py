"""Draws docs/architecture.png, the path of one outer step: `python docs/draw_architecture.py`."""

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

FOLDERS = {"datamodules": "#dbe9f6", "modules": "#e3f1dd", "learner": "#fdf0d5"}
# (x, y, width, folder, title, file); heights are equal
BOXES = [
    (0.0, 4, 3.0, "datamodules", "task numbers\n32, 33, ... 63", "tasks/task_stream.py"),
    (3.6, 4, 3.0, "datamodules", "which classes and images\na hash of (seed, split, number)", "tasks/sampling.py"),
    (7.2, 4, 3.0, "datamodules", "Episode: task.x, task.y,\nquery_x, query_y", "images/episode_source.py"),
    (7.2, 2.6, 3.0, "learner", "training_step: the batch in\nchunks of tasks", "learner/learner.py"),
    (3.6, 2.6, 3.0, "modules", "adapt: states after\n0, 1, ... inner steps", "methods/maml.py"),
    (0.0, 2.6, 3.0, "modules", "run: one network on T tasks,\nbatched, vmap or loop", "functional/tasks/networks.py"),
    (3.6, 1.2, 3.0, "modules", "predict: outputs\n(T, Q, n_way)", "methods/maml.py"),
    (7.2, 1.2, 3.0, "learner", "query_loss, outer_gradients:\nname -> gradient", "learner/method.py"),
    (7.2, -0.2, 3.0, "learner", "mean over chunks, batches\nand ranks; finite; clipped", "learner/outer_gradient.py"),
    (3.6, -0.2, 3.0, "learner", "one outer step: weights,\nbuffers, schedule, logs", "learner/learner.py"),
]
ARROWS = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9)]
HEIGHT = 0.95


def draw(path: Path) -> None:
    """Writes the picture."""
    figure, axes = plt.subplots(figsize=(10.6, 5.6), dpi=150)
    for x, y, width, folder, title, file in BOXES:
        box = FancyBboxPatch((x, y), width, HEIGHT, boxstyle="round,pad=0.02,rounding_size=0.08", fc=FOLDERS[folder])
        axes.add_patch(box)
        axes.text(x + width / 2, y + 0.6, title, ha="center", va="center", fontsize=10.5)
        axes.text(x + width / 2, y + 0.14, file, ha="center", va="center", fontsize=9, family="monospace", color="#444")
    for start, end in ARROWS:
        axes.add_patch(FancyArrowPatch(*_ends(start, end), arrowstyle="-|>", mutation_scale=14, color="#333"))
    names = {"datamodules": "datamodules/: the stream of tasks", "modules": "modules/: a method and what it is made of"}
    names["learner"] = "modules/learner/: the same for every method"
    for row, (folder, text) in enumerate(names.items()):
        axes.add_patch(FancyBboxPatch((0, 1.75 - 0.5 * row), 0.3, 0.2, boxstyle="round,pad=0.02", fc=FOLDERS[folder]))
        axes.text(0.45, 1.85 - 0.5 * row, text.replace(": ", ":\n"), va="center", fontsize=9.5)
    axes.set_xlim(-0.2, 10.4)
    axes.set_ylim(-0.4, 5.15)
    axes.axis("off")
    figure.savefig(path, bbox_inches="tight", facecolor="white")


def _ends(start: int, end: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Tells where an arrow between two boxes begins and ends: side by side, or one above the other."""
    (x0, y0, w0, *_), (x1, y1, w1, *_) = BOXES[start], BOXES[end]
    if y0 == y1:
        right = x1 > x0
        return (x0 + (w0 if right else 0), y0 + HEIGHT / 2), (x1 + (0 if right else w1), y1 + HEIGHT / 2)
    return (x0 + w0 / 2, y0), (x1 + w1 / 2, y1 + HEIGHT)


if __name__ == "__main__":
    draw(Path(__file__).with_name("architecture.png"))
