"""The line that says why the last weights are tested names the right cause."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.runs.missing_best import why_none_is_best
from app.runs.run_checkpoint import RunCheckpoint


@pytest.mark.parametrize(
    ("trainer", "save_top_k", "says"),
    [
        ({"limit_val_batches": 0}, 1, "Validation is switched off (trainer.limit_val_batches is 0)"),
        ({"callback_metrics": {"val/accuracy": 0.5}}, 0, "No best checkpoint is kept (checkpoint.save_top_k is 0)"),
        ({"callback_metrics": {"val/accuracy": 0.5}}, 1, "No checkpoint with the best val/accuracy can be read"),
        ({"fast_dev_run": 1, "callback_metrics": {"val/accuracy": 0.5}}, 1, "is kept (trainer.fast_dev_run)"),
        ({}, 1, "(they come every 1,000 steps, and the training ended at step 4)"),
        ({"val_check_interval": "00:01:00:00"}, 1, "No validation came before the end (the training ended at step 4)"),
    ],
)
def test_the_cause_is_named(trainer: dict[str, Any], save_top_k: int, says: str) -> None:
    found = {"limit_val_batches": 1.0, "callback_metrics": {}, "val_check_interval": 1000, "global_step": 4}
    found["fast_dev_run"] = 0
    stand_in: Any = SimpleNamespace(**found | trainer)
    assert says in why_none_is_best(stand_in, RunCheckpoint(save_top_k=save_top_k))


def test_a_run_without_validations_says_so(run, tiny):
    ended = run("fit", *tiny, "--trainer.limit_val_batches=0")
    assert (ended.code, ended.err) == (0, "")
    assert "Validation is switched off (trainer.limit_val_batches is 0): testing the last weights" in ended.out
    assert "every 2 steps" not in ended.out


@pytest.mark.parametrize("option", ["--trainer.callbacks=LearningRateMonitor", "--trainer.profiler=simple"])
def test_what_a_user_adds_is_heard(run, tiny, option):
    """One callback needs no list around it; a profile is no log message, which this program does not show."""
    assert run("fit", *tiny, option).code == 0
    profile = Path("runs/maml_glyphs_5w1s/0/fit-profile.txt")
    assert profile.exists() == ("profiler" in option)
    columns = Path("runs/maml_glyphs_5w1s/0/metrics.csv").read_text().splitlines()[0].split(",")
    assert any(name.startswith("lr-") for name in columns) == ("Monitor" in option)
