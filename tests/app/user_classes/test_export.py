"""`export` from a tiny run and a folder of images to files that answer like the learner."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from PIL import Image

from app.user_classes.model_card import CardFacts, model_card

CONFIGS = Path(__file__).parents[3] / "configs"
FILES = ["classes.json", "classifier.onnx", "classifier.pt2", "model_card.md"]


def write_support(folder: Path, sizes: dict[str, int]) -> Path:
    """Dark strokes on paper; each class has a grey of its own."""
    for number, (name, size) in enumerate(sizes.items()):
        (folder / name).mkdir(parents=True)
        for i in range(size):
            pixels = np.full((40, 50, 3), 255, np.uint8)
            pixels[8 + number : 20 + 3 * i, 10 : 20 + 5 * number] = 20 * number
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_export_writes_a_checked_classifier_of_a_users_classes(
    run: Callable[..., object], fitted: Callable[..., None], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    fitted(*tiny)
    support = write_support(tmp_path / "mine", {"cat": 2, "dog|wolf": 1, "owl": 3})
    trained = Path("runs/maml_glyphs_5w1s/0")
    ended = run("export", "--ckpt_path", str(trained), "--data", "SupportQuery", "--data.support", str(support))
    assert ended.code == 0, ended.err  # type: ignore[attr-defined]
    assert ended.err == "support: reading images (6) ...\n"  # type: ignore[attr-defined]
    folder = trained.parent / "export_0"
    assert [name for name in FILES if not (folder / name).is_file()] == []
    labels = json.loads((folder / "classes.json").read_text())
    assert labels["classes"] == ["cat", "dog|wolf", "owl"]
    assert labels["support_images"] == [2, 1, 3]
    assert labels["preprocessing"]["ink"] == "white on black"
    session = onnxruntime.InferenceSession(folder / "classifier.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == labels["classes"]
    images = np.full((2, 3, 33, 21), 255, np.uint8)
    images[:, :, 5:20, 5:9] = 0
    (probabilities,) = session.run(None, {"images": images})
    assert probabilities.shape == (2, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    in_torch = torch.export.load(folder / "classifier.pt2").module()(torch.from_numpy(images))
    np.testing.assert_allclose(in_torch.detach().numpy(), probabilities, atol=1e-4)
    own = ("--data", "SupportQuery", "--data.support", str(support), "--data.query", str(support))
    assert run("predict", "--ckpt_path", str(trained), *own).code == 0  # type: ignore[attr-defined]
    with (trained.parent / "predict_0" / "predictions.csv").open(newline="") as file:
        predicted = {
            row["file"]: [float(row[f"p({name})"]) for name in labels["classes"]] for row in csv.DictReader(file)
        }
    for path in support.rglob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)[None]
        (probabilities,) = session.run(None, {"images": pixels})
        (of_file,) = [values for name, values in predicted.items() if name.endswith(f"{path.parent.name}/{path.name}")]
        np.testing.assert_allclose(probabilities[0], of_file, atol=2e-4)  # the table has four digits
    card = (folder / "model_card.md").read_text()
    results = json.loads((trained / "results.json").read_text())
    assert f"{results['accuracy_inductive']:.2%} +- {results['ci95_inductive']:.2%}" in card
    assert "Glyphs" in card
    assert r"| 1 | dog\|wolf | 1 |" in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "export needs --ckpt_path"),
        (("--ckpt_path", "last"), r"export needs the classes to learn: set --data SupportQuery and --data\.support"),
        (
            ("--ckpt_path", "last", "--data", "SupportQuery", "--data.support", "six"),
            "this MAML was trained with 5 outputs, but there are 6 classes: train with --data.n_way 6",
        ),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_no_folder(
    run: Callable[..., object],
    fitted: Callable[..., None],
    tiny: tuple[str, ...],
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    if arguments:
        fitted(*tiny)
    write_support(tmp_path / "six", dict.fromkeys("abcdef", 1))
    ended = run("export", *arguments)
    assert ended.code in (1, 2)  # type: ignore[attr-defined]
    *progress, line = ended.err.splitlines()  # type: ignore[attr-defined]
    assert re.search(message, line)
    assert progress in ([], ["support: reading images (6) ..."])
    assert list(tmp_path.glob("runs/*/export_*")) == []


RESULTS = {
    "split": "test",
    "accuracy": 0.61234,
    "ci95": 0.0054321,
    "accuracy_transductive": 0.61234,
    "ci95_transductive": 0.0054321,
    "accuracy_inductive": 0.58765,
    "ci95_inductive": 0.0065432,
    "n_tasks": 1234,
    "protocol": {
        "data": "MiniImageNet",
        "n_way": 5,
        "k_shot": 1,
        "n_query": 15,
        "inner_steps": 10,
        "transductive": True,
    },
    "checkpoint": "runs/x/0/checkpoints/best-step=400.ckpt",
}


def test_a_card_of_one_test_task_has_no_interval() -> None:
    nothing = dict.fromkeys(("ci95", "ci95_transductive", "ci95_inductive"))
    card = model_card(facts(results=RESULTS | nothing | {"n_tasks": 1}), {"classifier.onnx": 0.0})
    assert "it is the inductive figure, 58.77%." in " ".join(card.split())
    assert "+-" not in card
    assert "95%" not in card


def facts(**changes: object) -> CardFacts:
    values: dict[str, object] = {
        "checkpoint": "runs/x/0/checkpoints/best-step=400.ckpt",
        "method": "MAML",
        "global_step": 60000,
        "data": "MiniImageNet",
        "training": {"n_way": 5, "k_shot": 1, "n_query": 15, "root": "/home/me"},
        "results": RESULTS,
        "class_names": ("cat", "owl"),
        "class_sizes": (3, 4),
        "input_spec": {"image_shape": [3, 84, 84], "filter": "lanczos", "fit": "crop"},
    }
    return CardFacts(**(values | changes))  # type: ignore[arg-type]


def test_a_card_states_the_numbers_of_the_results_file() -> None:
    card = model_card(facts(), {"classifier.onnx": 3.1e-8})
    for stated in (
        "test accuracy 61.23% +- 0.54% (1,234 tasks, 5-way 1-shot, transductive); 58.77% +- 0.65% inductive",
        "the inductive figure, 58.77% +- 0.65%",
        "n_way = 5, k_shot = 1, n_query = 15, inner_steps = 10, transductive = True",
        "Trained on MiniImageNet for 60,000 outer steps (n_way = 5, k_shot = 1, n_query = 15).",
        "| 1 | owl | 4 |",
        "7 support images",
        "3.1e-08",
        "Pillow's antialiased lanczos filter",
        "largest centred part",
        "No threshold is given",
    ):
        assert stated in card
    assert "/home/me" not in card
    nearest = facts(input_spec={"image_shape": [1, 28, 28], "filter": "nearest"})
    assert "Pillow's choice of the nearest pixel." in model_card(nearest, {})
    other = model_card(facts(results=RESULTS | {"accuracy_inductive": 0.5}), {})
    assert "58.77%" not in other
    assert "50.00%" in other


def test_a_card_says_what_was_not_measured() -> None:
    assert "Measured with another checkpoint of the run" in model_card(facts(checkpoint="runs/x/0/last.ckpt"), {})
    assert "Not measured: `python train.py test --ckpt_path runs/x/0" in model_card(facts(results=None), {})


def test_a_card_states_threshold_and_ink() -> None:
    spec = {"image_shape": [1, 28, 28], "filter": "bilinear", "ink": "white on black"}
    card = model_card(facts(unsure_below=0.6172, temperature=1.25, input_spec=spec), {})
    assert "largest probability is below 0.6172" in card
    assert "temperature of 1.2500" in card
    assert "Inverted where its border is light" in card
    assert "ITU-R 601-2" in card


@pytest.mark.parametrize("block", [0, 1])
def test_a_cards_python_is_python(block: int) -> None:
    code = re.findall(r"```python\n(.*?)```", model_card(facts(), {}), re.S)[block]
    compile(code, "card", "exec")
    assert code.count("\n") == 5
