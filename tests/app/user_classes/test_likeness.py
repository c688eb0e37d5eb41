"""A query unlike the training data is unsure, says so, and like ones pass."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from app.checkpoints.file import load_sound
from app.user_classes.answer import Answer
from app.user_classes.answers import summary
from app.user_classes.likeness import KEY, Likeness, likeness_of_run, measure_likeness, stored_likeness
from datamodules import EpisodeDataModule, Glyphs
from datamodules.images.bank import ImageBank
from datamodules.settings import Evaluation
from modules import Learner, ProtoNet
from tests.app.user_classes.drawn_task import predict, rows
from tests.learnable_images import LearnableImages, TwoBlocks, make_data


def noise(folder: Path, count: int) -> Path:
    """Pictures of no kind that a network of characters has seen."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def best_of(protonet: Path) -> Path:
    (best,) = (protonet / "checkpoints").glob("best*.ckpt")
    return best


def test_the_checkpoint_carries_what_likeness_is_measured_by(protonet: Path):
    likeness = stored_likeness(load_sound(best_of(protonet)))
    assert likeness is not None
    assert likeness.n_tasks == 40
    assert len(likeness.distances) == 40 * 5 * 3
    assert torch.equal(likeness.distances, likeness.distances.sort().values)


def shares(likeness: Likeness, learner: Learner, data: EpisodeDataModule, split: str, first: int) -> torch.Tensor:
    episodes = [data.episode(split, torch.tensor([task])) for task in range(first, first + 60)]
    return torch.cat([likeness.of(learner, episode.task, episode.query_x) for episode in episodes])


def test_new_classes_are_like_those_of_validation_and_noise_is_not():
    torch.manual_seed(0)
    data = make_data(n_query=5, evaluation=Evaluation(n_val_tasks=200))
    data.setup("fit")
    learner = ProtoNet(TwoBlocks(running_stats=True))
    likeness = measure_likeness(learner, data)
    val, test = (shares(likeness, learner, data, split, 1000) for split in ("val", "test"))
    assert float((val < 0.01).float().mean()) <= 0.02
    assert float((test < 0.01).float().mean()) <= 0.05
    task = data.episode("test", torch.tensor([0])).task
    assert float(likeness.of(learner, task, torch.rand(1, 20, 1, 8, 8) * 3).max()) < 0.01
    again = measure_likeness(learner, data)
    assert torch.equal(again.distances, likeness.distances)


def test_two_classes_are_enough_and_one_is_said_to_be_too_few(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    class FewClasses(LearnableImages):
        def split_classes(self, bank: ImageBank) -> dict[str, list[int]]:
            return {**super().split_classes(bank), "val": [1, 4]}

    data = FewClasses(n_way=2, k_shot=2, n_query=2, evaluation=Evaluation(n_val_tasks=5))
    data.setup("fit")
    learner = ProtoNet(TwoBlocks(running_stats=True))
    assert len(likeness_of_run(learner, data)[KEY]["distances"]) == 20 * 2 * 2
    episode = data.episode("val", torch.tensor([0]))
    of_one = episode._replace(task=episode.task._replace(classes=torch.tensor([[1, 1]])))
    monkeypatch.setattr(data, "episode", lambda *task: of_one)
    assert likeness_of_run(learner, data) == {}
    assert "not compared with the training data: likeness is measured on classes left out" in capsys.readouterr().err


def save_glyphs(root: Path) -> None:
    """Five classes of a script that training never showed, as dark ink on white paper."""
    data = Glyphs(n_way=5, k_shot=1, n_query=4)
    data.prepare_data()
    data.setup("test")
    episode = data.episode("test", torch.tensor([0]))
    for kind, images, labels in (
        ("support", episode.task.x[0], episode.task.y[0]),
        ("query", episode.query_x[0], episode.query_y[0]),
    ):
        for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            (root / kind / f"class{label}").mkdir(parents=True, exist_ok=True)
            pixels = 255 - (image[0] * 255).round().to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(root / kind / f"class{label}" / f"{number}.png")


def test_noise_is_unsure_with_its_reason_and_characters_are_not(protonet: Path, run, tmp_path: Path):
    save_glyphs(tmp_path)
    noise(tmp_path / "query" / "noise", 10)
    ended = predict(run, str(protonet), tmp_path, "--answers.unsure_below=0")
    assert ended.code == 0, ended.err
    found = rows(next(Path().glob("runs/*/predict_0/predictions.csv")))
    of_noise = [row for row in found if Path(row["file"]).parent.name == "noise"]
    characters = [row for row in found if row not in of_noise]
    assert {(row["label"], row["reason"]) for row in of_noise} == {("unsure", "unlike the training data")}
    assert max(float(row["likeness"]) for row in of_noise) < 0.01
    assert sum(row["reason"] == "" and row["label"] == row["guess"] for row in characters) >= 18
    assert all(0 <= float(row["likeness"]) <= 1 for row in found)
    unlike = sum("unlike" in row["reason"] for row in found)
    assert f"of which {unlike} are unlike the training data" in ended.out
    assert (
        "unlike the training data: images with a likeness below 0.01, as measured on 40 validation tasks" in ended.out
    )
    off = predict(run, str(protonet), tmp_path, "--answers.unsure_below=0", "--answers.unlike_below=0")
    assert off.code == 0, off.err
    assert "30 images, 30 sure and 0 unsure" in off.out


def test_an_older_checkpoint_is_measured_where_the_data_are(protonet: Path, run, task: Path, tmp_path: Path):
    checkpoint = load_sound(best_of(protonet))
    del checkpoint[KEY]
    torch.save(checkpoint, tmp_path / "older.ckpt")
    ended = predict(run, str(tmp_path / "older.ckpt"), task)
    assert ended.code == 0, ended.err
    assert all(row["likeness"] for row in rows(next(Path().glob("runs/*/predict_0/predictions.csv"))))


def test_without_the_data_the_column_is_empty_and_that_is_said(
    protonet: Path, run, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoint = load_sound(best_of(protonet))
    del checkpoint[KEY]
    torch.save(checkpoint, tmp_path / "older.ckpt")
    monkeypatch.setattr(
        "datamodules.sets.glyphs.glyphs.Glyphs.build_bank", lambda self: (_ for _ in ()).throw(OSError("not here"))
    )
    ended = predict(run, str(tmp_path / "older.ckpt"), task)
    assert ended.code == 0, ended.err
    assert "not compared with the training data: not here" in ended.err
    assert "no answer is unsure for an image unlike the training data" in ended.out
    assert {row["likeness"] for row in rows(next(Path().glob("runs/*/predict_0/predictions.csv")))} == {""}


def test_the_threshold_is_a_share(protonet: Path, run, task: Path):
    ended = predict(run, str(protonet), task, "--answers.unlike_below=2")
    assert ended.code in (1, 2)
    assert "answers.unlike_below must be from 0 to 1" in ended.err


def test_the_summary_counts_them():
    unlike = Answer(Path("x.png"), "unsure", "a", [0.9, 0.1], None, 0.0, "unlike the training data")
    unsure = Answer(Path("y.png"), "unsure", "a", [0.6, 0.4], None, 0.5, "not confident enough")
    assert summary([unlike, unsure]) == "2 images, 0 sure and 2 unsure, of which 1 is unlike the training data"


DATA = Path(os.environ.get("QUICKSTUDY_DATA", "nowhere"))


@pytest.mark.skipif(not (DATA / "mini-imagenet").is_dir(), reason="needs the data sets in QUICKSTUDY_DATA")
def test_photographs_are_unlike_characters_and_handwriting_is_not(protonet: Path, run, tmp_path: Path):
    chosen = random.Random(0)
    characters = sorted((DATA / "omniglot" / "images_evaluation").glob("*/character*"))
    for character in chosen.sample(characters, 5):
        name = f"{character.parent.name}_{character.name}"
        for kind, files in (("support", slice(0, 1)), ("query", slice(1, 9))):
            (tmp_path / kind / name).mkdir(parents=True)
            for file in sorted(character.iterdir())[files]:
                shutil.copy(file, tmp_path / kind / name)
    (tmp_path / "query" / "photographs").mkdir()
    for file in chosen.sample(sorted((DATA / "mini-imagenet" / "images").iterdir()), 50):
        shutil.copy(file, tmp_path / "query" / "photographs")
    ended = predict(run, str(protonet), tmp_path, "--answers.unsure_below=0")
    assert ended.code == 0, ended.err
    found = rows(next(Path().glob("runs/*/predict_0/predictions.csv")))
    of_photographs = [row["label"] == "unsure" for row in found if Path(row["file"]).parent.name == "photographs"]
    of_drawings = [row["label"] == "unsure" for row in found if Path(row["file"]).parent.name != "photographs"]
    assert (len(of_photographs), len(of_drawings)) == (50, 40)
    assert sum(of_photographs) >= 0.9 * len(of_photographs)
    assert sum(of_drawings) <= 0.4 * len(of_drawings)
