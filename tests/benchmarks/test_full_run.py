"""The whole run's figures, from a short one on the CPU."""

import os
from pathlib import Path

import pytest
import torch

from benchmarks import full_run
from benchmarks.options import Options

DATA = os.environ.get("QUICKSTUDY_DATA")


@pytest.mark.skipif(DATA is None, reason="no real data: QUICKSTUDY_DATA is not set")
def test_a_short_run_is_read_and_one_that_takes_too_long_is_stopped() -> None:
    changes: dict[str, object] = {"trainer.accelerator": "cpu", "trainer.max_steps": 2, "trainer.val_check_interval": 1}
    changes |= {"data.evaluation.n_val_tasks": 2, "data.evaluation.n_test_tasks": 2}
    row = full_run.measure(Path(str(DATA)).absolute(), 120, changes)
    assert row["steps"] == 2
    assert float(row["train_seconds"] or 0) < float(row["seconds"] or 0)
    assert 0 <= float(row["accuracy"] or 0) <= 1
    stopped = full_run.measure(Path(str(DATA)).absolute(), 1, changes)
    assert str(stopped["note"]).startswith("not finished")
    assert "accuracy" not in stopped


def test_it_is_not_tried_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert full_run.run(Options(torch.device("cpu"), 1, None)) == []
    assert "measured on a GPU only" in capsys.readouterr().out
