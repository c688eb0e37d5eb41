"""An experiment on the real Omniglot, where QUICKSTUDY_DATA holds it: the shortest training, whole and in two parts."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from app.files.data_folder import data_folder
from reproduction import training
from reproduction.__main__ import main

EXPERIMENT = "maml_mlp_omniglot_5w1s"
SAME = ("accuracy", "ci95", "accuracy_inductive", "iterations", "tested_iteration", "configuration", "n_tasks")

pytestmark = pytest.mark.skipif(
    "QUICKSTUDY_DATA" not in os.environ or not (data_folder() or Path("nowhere")).joinpath("omniglot").is_dir(),
    reason="set QUICKSTUDY_DATA to a folder that holds omniglot/",
)


def reproduced(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(training, "RUNS", folder / "runs")
    try:
        main([EXPERIMENT, "--seeds", "0", "--results", str(folder / "results"), *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def record_in(folder: Path) -> dict[str, object]:
    (run,) = json.loads((folder / "results" / f"{EXPERIMENT}.json").read_text())["runs"]
    return run


def test_an_experiment_is_trained_and_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reproduced(tmp_path, monkeypatch, "--iterations", "2") == 0
    run = record_in(tmp_path)
    assert 0.2 < float(str(run["accuracy"])) < 0.9
    assert (run["iterations"], run["iterations_asked"], run["n_tasks"]) == (2, 2, 600)
    assert run["protocol"]["split"] == "vinyals"  # type: ignore[index]
    assert run["versions"]["torch"] == torch.__version__  # type: ignore[index]
    assert str(data_folder()) not in json.dumps(run)


@pytest.mark.slow
def test_a_training_in_two_parts_is_the_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert reproduced(whole, monkeypatch, "--iterations", "100") == 0

    def stop_in_training() -> None:
        while not list(parts.glob("runs/*/0/config.yaml")):  # it is about to begin
            time.sleep(0.1)
        time.sleep(2.0)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_in_training)
    thread.start()
    assert reproduced(parts, monkeypatch, "--iterations", "100") == 143
    thread.join()
    assert not (parts / "results").exists()
    assert reproduced(parts, monkeypatch, "--iterations", "60") == 0  # a run that was meant to be longer is another one
    assert reproduced(parts, monkeypatch, "--iterations", "100") == 0
    runs = json.loads((parts / "results" / f"{EXPERIMENT}.json").read_text())["runs"]
    assert [run["iterations"] for run in runs] == [100, 60]
    assert {name: runs[0][name] for name in SAME} == {name: record_in(whole)[name] for name in SAME}
