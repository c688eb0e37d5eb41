"""How sure answers are: calibrated, kept in the checkpoint, used by `predict`."""

import json
from pathlib import Path

import pytest
import torch

from app.checkpoints.file import load_sound
from app.user_classes.answer import Answer
from app.user_classes.answers import contradiction
from app.user_classes.calibration import BINS, KEY, Calibration, calibration_of, stored_calibration
from modules.functional.calibration import sure_above
from tests.app.user_classes.drawn_task import SHAPES, predict, rows


@pytest.mark.parametrize(("below", "unsure"), [("0", 0), ("1", 12)])
def test_the_threshold_can_be_set(protonet: Path, run, task: Path, below: str, unsure: int):
    ended = predict(run, str(protonet), task, "--answers.unsure_below", below, "--answers.unlike_below=0")
    assert ended.code == 0, ended.err
    found = rows(next(Path().glob("runs/*/predict_0/predictions.csv")))
    assert sum(row["label"] == "unsure" for row in found) in (unsure, unsure - 1)  # a probability may be 1


def test_the_best_checkpoint_carries_its_calibration(protonet: Path):
    (best,) = (protonet / "checkpoints").glob("best*.ckpt")
    calibration = stored_calibration(load_sound(best))
    assert calibration is not None
    assert (calibration.n_tasks, calibration.n_way, calibration.k_shot) == (40, 5, 1)
    assert sum(calibration.right) + sum(calibration.wrong) == 40 * 5 * 3
    accuracy = sum(calibration.right) / (40 * 5 * 3)
    val = json.loads((protonet / "results.json").read_text())
    assert abs(accuracy - val["accuracy"]) < 0.15
    assert stored_calibration(load_sound(protonet / "checkpoints" / "last.ckpt")) is None


def test_the_calibration_fits_the_users_task_where_the_data_are_here(protonet: Path, run, task: Path, tmp_path: Path):
    here = predict(run, str(protonet), task)
    assert "4-way 1-shot validation tasks" in here.out
    (best,) = (protonet / "checkpoints").glob("best*.ckpt")
    checkpoint = load_sound(best)
    checkpoint["datamodule_hyper_parameters"] |= {
        "_class_path": "datamodules.Omniglot",
        "root": str(tmp_path / "none"),
        "download": False,
    }
    del checkpoint["datamodule_hyper_parameters"]["cache"]
    torch.save(checkpoint, tmp_path / "moved.ckpt")
    moved = predict(run, str(tmp_path / "moved.ckpt"), task)
    assert moved.code == 0, moved.err
    assert "5-way 1-shot validation tasks" in moved.out
    del checkpoint[KEY]
    torch.save(checkpoint, tmp_path / "moved.ckpt")
    without = predict(run, str(tmp_path / "moved.ckpt"), task)
    assert "every answer is called sure: the checkpoint has no calibration" in without.out


def altered(protonet: Path, path: Path, **calibration: object) -> str:
    """The best checkpoint with another calibration, for a task of four ways and one shot."""
    (best,) = (protonet / "checkpoints").glob("best*.ckpt")
    checkpoint = load_sound(best)
    checkpoint[KEY] |= {"n_way": 4, "k_shot": 1, **calibration}
    torch.save(checkpoint, path)
    return str(path)


def test_the_probabilities_are_those_at_the_calibrated_temperature(protonet: Path, run, task: Path, tmp_path: Path):
    found = []
    for temperature in (1.0, 3.0):
        ended = predict(run, altered(protonet, tmp_path / "hot.ckpt", temperature=temperature), task)
        assert ended.code == 0, ended.err
        table = rows(sorted(Path().glob("runs/*/predict_*/predictions.csv"))[-1])
        found.append(torch.tensor([[float(row[f"p({name})"]) for name in sorted(SHAPES)] for row in table]))
    once, thrice = found
    expected = (once.clamp(min=1e-4).log() / 3).softmax(-1)
    close = (once > 2e-3).all(1)  # four digits say little of smaller ones
    assert close.any()
    torch.testing.assert_close(thrice[close], expected[close], atol=6e-3, rtol=0)


def test_another_learners_calibration_is_not_used(protonet: Path, run, task: Path, tmp_path: Path):
    checkpoint = altered(protonet, tmp_path / "own.ckpt", n_tasks=7)
    assert "7 4-way 1-shot validation tasks" in predict(run, checkpoint, task).out
    changed = predict(run, checkpoint, task, "--model.distance", "cosine")
    assert "7 4-way 1-shot" not in changed.out


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_other_precisions_are_calibrated_and_answered(run, tiny, task: Path, precision: str):
    ended = run("fit", *tiny, f"--trainer.precision={precision}")
    assert (ended.code, "not calibrated" in ended.err) == (0, False), ended.err
    asked = predict(run, "best", task, f"--trainer.precision={precision}")
    assert asked.code == 0, asked.err


def test_a_calibrations_bins_give_the_threshold_of_its_answers():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 5, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)
    calibration = calibration_of(logits, labels, 40, 5, 1)
    assert calibration.temperature == pytest.approx(1, abs=0.1)
    confidence, answer = (logits / calibration.temperature).softmax(-1).max(-1)
    exact = sure_above(confidence, answer == labels, 0.8)
    assert exact is not None
    assert calibration.threshold(0.8) == pytest.approx(exact, abs=2 / BINS)


def test_a_threshold_needs_its_share():
    calibration = Calibration(1.0, [0] * BINS, [1] * BINS, 10, 5, 1)
    assert calibration.threshold(0.5) is None


def test_sure_answers_that_the_folders_contradict_are_warned_of():
    def answers(right: int, wrong: int) -> list[Answer]:
        return [Answer(Path("x"), "a", "a", [0.9, 0.1], truth) for truth in "a" * right + "b" * wrong]

    assert contradiction(answers(90, 10), 0.9) is None
    assert contradiction(answers(85, 15), 0.9) is None  # within what chance does
    assert contradiction(answers(1, 3), 0.9) is None  # too few to tell
    assert "only 70.00% of the sure answers are right, not 90%" in (contradiction(answers(70, 30), 0.9) or "")
    assert contradiction([answer._replace(truth=None) for answer in answers(0, 100)], 0.9) is None


def test_the_share_of_sure_answers_is_counted():
    right, wrong = [0] * BINS, [0] * BINS
    right[-1], wrong[0], right[BINS // 2] = 10, 20, 10
    calibration = Calibration(1.0, right, wrong, 10, 5, 1)
    assert calibration.share(0.5) == 0.5
    assert calibration.share(0.9) == 0.25
