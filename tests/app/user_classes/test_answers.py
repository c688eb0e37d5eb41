"""`predict` on a user's own folders, from a trained checkpoint to predictions.csv and a contact sheet."""

import csv
import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from app.user_classes.answer import Answer
from app.user_classes.answers import summary
from tests.app.user_classes.drawn_task import SHAPES, draw, predict, rows
from tests.datamodules.image_makers import save_classes

METHODS = {
    "MAML": ("--model", "MAML", "--model.inner_lr", "0.1"),
    "Reptile": ("--model", "Reptile", "--model.eval_inner_steps", "5"),
    "ProtoNet": (
        "--model",
        "ProtoNet",
    ),
}


@pytest.fixture(params=METHODS)
def trained(request: pytest.FixtureRequest, run, tiny) -> str:
    """A checkpoint of a few steps, of each method."""
    backbone = (
        "--model.backbone",
        "Conv4",
        *(("--model.backbone.running_stats", "true") if request.param == "ProtoNet" else ()),
    )
    ended = run(
        "fit",
        "--config",
        str(Path(__file__).parents[3] / "configs" / "maml_glyphs_5w1s.yaml"),
        *METHODS[request.param],
        *backbone,
        *tiny,
    )
    assert ended.code == 0, ended.err
    return "runs/maml_glyphs_5w1s/0"


def test_every_method_classifies_a_users_folders(trained: str, run, task: Path):
    ended = predict(run, trained, task, "--trainer.accelerator=cpu")
    assert ended.code == 0, ended.err
    found = rows(Path("runs/maml_glyphs_5w1s/predict_0/predictions.csv"))
    assert [Path(row["file"]).parent.name for row in found] == sorted(name for name in SHAPES for _ in range(3))
    for row in found:
        probabilities = {name: float(row[f"p({name})"]) for name in sorted(SHAPES)}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-3)
        assert row["guess"] == max(probabilities, key=probabilities.__getitem__)
        assert float(row["probability"]) == max(probabilities.values())
        assert row["label"] in (row["guess"], "unsure")
        assert row["folder"] == Path(row["file"]).parent.name
    right = sum(row["guess"] == row["folder"] for row in found) / 12
    assert f"12 images, {sum(row['label'] != 'unsure' for row in found)} sure" in ended.out
    assert f"{right:.2%} right" in ended.out
    with Image.open("runs/maml_glyphs_5w1s/predict_0/contact_sheet.png") as sheet:
        assert sheet.width > 1000


def test_the_answers_are_good(protonet: Path, run, task: Path):
    ended = predict(run, str(protonet), task)
    assert ended.code == 0, ended.err
    found = rows(next(Path().glob("runs/*/predict_0/predictions.csv")))
    assert sum(row["guess"] == row["folder"] for row in found) >= 9


def test_an_answer_depends_on_no_other_query(protonet: Path, run, task: Path):
    together = predict(run, str(protonet), task, "--data.batch_size=5")
    assert together.code == 0, together.err
    found = {row["file"]: row for row in rows(next(Path().glob("runs/*/predict_0/predictions.csv")))}
    for number, (file, row) in enumerate(list(found.items())[::4], start=1):
        alone = run(
            "predict", "--ckpt_path", str(protonet), "--data", "SupportQuery", "--data.support",
            str(task / "support"), "--data.query", file,
        )  # fmt: skip
        assert alone.code == 0, alone.err
        (only,) = rows(next(Path().glob(f"runs/*/predict_{number}/predictions.csv")))
        for name in SHAPES:
            assert float(only[f"p({name})"]) == pytest.approx(float(row[f"p({name})"]), abs=2e-4)


def test_odd_names_lose_no_answer(protonet: Path, run, task: Path, tmp_path: Path):
    """Classes called like columns, with letters of other alphabets; a file name that is no UTF-8."""
    draw(tmp_path / "odd", {"cross": 1, "line": 1, "hook": 1}, 5)
    for old, new in (("cross", "label"), ("line", 'größe, "ж"'), ("hook", "file")):
        (tmp_path / "odd" / old).rename(tmp_path / "odd" / new)
    draw(tmp_path / "asked", {"cross": 2}, 6)
    (tmp_path / "asked" / "cross" / "0.png").rename(tmp_path / "asked" / "cross" / os.fsdecode(b"caf\xe9.png"))
    ended = run(
        "predict", "--ckpt_path", str(protonet), "--data", "SupportQuery", "--data.support", str(tmp_path / "odd"),
        "--data.query", str(tmp_path / "asked"),
    )  # fmt: skip
    assert ended.code == 0, ended.err
    text = next(Path().glob("runs/*/predict_0/predictions.csv")).read_bytes()
    assert b"caf\xe9.png" in text
    header = next(csv.reader(text.decode("utf-8", "surrogateescape").splitlines()))
    assert header[:6] == ["file", "label", "guess", "probability", "likeness", "reason"]
    assert header[6:] == ["p(file)", 'p(größe, "ж")', "p(label)"]


def test_a_class_cannot_be_called_unsure(protonet: Path, run, task: Path, tmp_path: Path):
    draw(tmp_path / "support", {"cross": 1, "line": 1}, 5)
    (tmp_path / "support" / "line").rename(tmp_path / "support" / "unsure")
    ended = run(
        "predict", "--ckpt_path", str(protonet), "--data", "SupportQuery", "--data.support", str(tmp_path / "support"),
        "--data.query", str(task / "query"),
    )  # fmt: skip
    assert ended.code == 1
    assert "a class cannot be called 'unsure'" in ended.err


def test_a_broken_support_image_is_left_out_and_the_rest_is_answered(protonet: Path, run, task: Path, tmp_path: Path):
    shutil.copytree(task / "support", tmp_path / "support")
    (tmp_path / "support" / "cross" / "0.png").write_text("not a picture")
    ended = run(
        "predict", "--ckpt_path", str(protonet), "--data", "SupportQuery", "--data.support", str(tmp_path / "support"),
        "--data.query", str(task / "query"), "--data.strict", "false",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "left out: " in ended.err
    assert "contact sheet: " in ended.out


def test_classes_that_were_trained_on_are_not_tested_on(run, tiny, tmp_path: Path):
    """A folder that changed since the training may hand its classes to other splits."""
    save_classes(tmp_path / "images", {f"class{number:02}": 4 for number in range(24)})
    data = ("--data", "ImageFolder", "--data.root", str(tmp_path / "images"), "--data.cache", str(tmp_path))
    sizes = ("--data.n_way=2", "--data.n_query=1", "--data.image_size=28", "--data.channels=1")
    assert run("fit", "--model=ProtoNet", *data, *sizes, *tiny, "--model.backbone=Conv4").code == 0
    assert run("test", "--ckpt_path", "best", *data, *sizes).code == 0
    other = run("test", "--ckpt_path", "best", *data, *sizes, "--data.split_seed=5")
    assert other.code == 1
    assert "that the checkpoint was trained on" in other.err


def test_copies_of_the_support_prove_nothing(protonet: Path, run, task: Path, tmp_path: Path):
    """They are answered as the others are, and named; the share that is right is of the others."""
    shutil.copytree(task / "query", tmp_path / "query")
    originals = sorted((task / "support").rglob("*.png"))
    for i, file in enumerate(originals):
        (tmp_path / "query" / file.parent.name).mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "query" / file.parent.name / f"photo{i}.png")
    alone = predict(run, str(protonet), task)
    ended = run(
        "predict", "--ckpt_path", str(protonet), "--data", "SupportQuery", "--data.support", str(task / "support"),
        "--data.query", str(tmp_path / "query"),
    )  # fmt: skip
    assert f"{len(originals)} of the {12 + len(originals)} query images are support images" in ended.err
    assert f"{len(originals)} copies of support images, which prove nothing" in ended.out
    (right,) = re.findall(r"; (\S+%) right", alone.out)
    assert f"; {right} of the 12 in folders of the classes that are no copies right" in ended.out
    one, other = sorted(Path("runs").rglob("predictions.csv"))
    assert "copy_of" not in rows(one)[0]
    found = {row["file"]: row["copy_of"] for row in rows(other)}
    assert sorted(filter(None, found.values())) == sorted(map(str, originals))
    assert all(bool(original) == Path(file).name.startswith("photo") for file, original in found.items())


def test_the_summary_counts_what_it_says():
    def answer(label: str, guess: str, truth: str | None) -> Answer:
        return Answer(Path("x.png"), label, guess, [0.6, 0.4], truth)

    line = summary([answer("a", "a", "a"), answer("a", "a", "b"), answer("unsure", "b", "b"), answer("b", "b", None)])
    assert (
        line
        == "4 images, 3 sure and 1 unsure; 66.67% of the 3 in folders of the classes right, of the sure ones 50.00%"
    )
    assert summary([answer("a", "a", None)]) == "1 image, 1 sure and 0 unsure"


DIFFERENT = (0, 1, 2, 3, 4, 8)  # seeds whose lines differ


def more_classes(root: Path) -> Path:
    for number in range(6):
        draw(root / "many" / f"{number}", {"line": 1}, DIFFERENT[number])
        (root / "many" / f"{number}").rename(root / "many" / f"x{number}")
    return root / "many"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data.support=nowhere",), "there is no folder nowhere"),
        (("--data.query=nowhere",), "there is no folder nowhere"),
        (("--data.batch_size=0",), "batch_size must be at least 1"),
        (("--answers.accuracy=2",), "answers.accuracy"),
        (("--answers.unsure_below=7",), "answers.unsure_below"),
        (("--data.suport=x",), "suport"),
    ],
)
def test_wrong_input_is_one_line(protonet: Path, run, task: Path, options: tuple[str, ...], message: str):
    ended = predict(run, str(protonet), task, *options)
    assert ended.code in (1, 2)
    lines = [line for line in ended.err.splitlines() if "reading images" not in line]
    assert len(lines) == 1, ended.err
    assert message in lines[0]
    assert not list(Path().glob("runs/*/predict_*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "SupportQuery"), "--data SupportQuery needs --data.support: a folder with a folder of images"),
        (("--data.support=x",), "--data.support belongs to --data SupportQuery: add that"),
        (("--data=SupportQuery", "--data.support=x", "--data.image_size=90"), "no option --data.image_size"),
    ],
)
def test_half_a_command_says_what_is_missing(protonet: Path, run, options: tuple[str, ...], message: str):
    ended = run("predict", "--ckpt_path", str(protonet), *options)
    assert ended.code == 2
    assert message in ended.err
    assert "did you mean --data.image_size?" not in ended.err


def test_a_fixed_head_takes_fewer_classes_and_refuses_more(run, fitted, tiny, task: Path, tmp_path: Path):
    fitted(*tiny)
    many = more_classes(tmp_path)
    ended = run(
        "predict", "--ckpt_path", "best", "--data", "SupportQuery", "--data.support", str(many),
        "--data.query", str(task / "query"),
    )  # fmt: skip
    assert ended.code == 1
    assert "trained with 5 outputs, but there are 6 classes: train with --data.n_way 6" in ended.err


def test_another_data_sets_images_are_brought_to_the_checkpoints_size(protonet: Path, run, tmp_path: Path):
    images = tmp_path / "images"
    save_classes(images, {f"class{number:02}": 4 for number in range(24)})
    asked = ("test", "--ckpt_path", str(protonet), "--data", "ImageFolder", "--data.root", str(images))
    few = ("--data.n_way=2", "--data.evaluation.n_way=2", "--data.cache", str(tmp_path))
    ended = run(*asked, *few)
    assert ended.code == 0, ended.err
    assert "20 tasks, 2-way 1-shot" in ended.out
    larger = run(*asked, *few, "--data.image_size=40")
    assert larger.code == 0, larger.err
    assert "converted from (channels, height, width) = (1, 40, 40) to (1, 28, 28)" in larger.err
