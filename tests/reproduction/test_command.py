"""`python -m reproduction` around a training that takes milliseconds: what it runs, leaves, says and refuses."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reproduction.__main__ import main
from reproduction.commands import Commands, FailedCommand, StoppedCommand
from reproduction.shipped import ROOT


def ended(*arguments: str) -> int:
    try:
        main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def in_a_while(do: Callable[[], None], when: Path) -> threading.Thread:
    """Does something as soon as a file is there."""

    def wait() -> None:
        while not when.exists():
            time.sleep(0.01)
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_an_experiment_is_trained_tested_and_written(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "images").mkdir()
    assert ended("maml_omniglot_5w1s", "--seeds", "3", "--iterations", "600", "--data", "images") == 0
    calls = (checkout / "calls").read_text().splitlines()
    assert calls == [
        "fit --config configs/maml_omniglot_5w1s.yaml --seed_everything 3 --trainer.max_steps 600 "
        f"--data.init_args.root {checkout / 'images'} --trainer.default_root_dir runs/reproduction --resume auto"
    ]
    (run,) = json.loads((checkout / "results/maml_omniglot_5w1s.json").read_text())["runs"]
    assert run["accuracy"] == run["accuracy_transductive"] == 0.983
    assert run["accuracy_inductive"] == 0.95
    assert (run["seed"], run["iterations"], run["iterations_of_protocol"]) == (3, 600, 60000)
    assert (run["tested_iteration"], run["commit"], run["versions"]) == (300, "abc", {"torch": "2.11.0"})
    assert run["validation"] == [[500, 0.8], [1000, 0.9123]]
    assert run["trained_by"] == [{"commit": "ab"}]
    assert run["command"] == "make reproduce EXPERIMENT=maml_omniglot_5w1s SEED=3 ITERATIONS=600"
    assert run["train_command"].startswith("python train.py fit --config configs/maml_omniglot_5w1s.yaml --seed")
    assert run["test_command"] is None
    assert str(checkout) not in json.dumps(run)
    out = capsys.readouterr().out
    assert "maml_omniglot_5w1s, seed 3 after 600 of 60,000 iterations: 98.30 +- 0.30 % transductive" in out
    assert "the paper: 98.70 +- 0.40 %: inside" in out


def test_cells_of_one_training_share_it(checkout: Path) -> None:
    experiments = ("protonet_omniglot_20w1s", "protonet_omniglot_5w1s", "protonet_omniglot_lake_5w1s")
    assert ended(*experiments, "--seeds", "0") == 0
    fits = [call for call in (checkout / "calls").read_text().splitlines() if call.startswith("fit")]
    tests = [call for call in (checkout / "calls").read_text().splitlines() if call.startswith("test")]
    assert len(fits) == 2
    assert ["--data.split lake" in fit for fit in fits] == [False, True]
    assert len(tests) == 1
    assert "checkpoints/best-step=30000.ckpt" in tests[0]
    assert "--data.evaluation.n_way 20" in tests[0]
    (run,) = json.loads((checkout / "results/protonet_omniglot_20w1s.json").read_text())["runs"]
    assert (
        run["test_command"]
        == "python train.py test --ckpt_path RUN/checkpoints/best-step=30000.ckpt --data.evaluation.n_way 20"
    )


def test_what_has_its_result_is_left_alone(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seeds in (("0",), ("0", "1"), ("0", "1")):
        assert ended("maml_omniglot_5w1s", "--seeds", *seeds) == 0
    assert len((checkout / "calls").read_text().splitlines()) == 2
    out = capsys.readouterr().out
    assert "seed 0 has 98.00 +- 0.30 %: this one lies within its interval (+0.10)" in out
    assert out.splitlines()[-1].startswith("Every experiment asked for has its result")


def test_again_trains_anew_and_is_gone_on_with(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("maml_omniglot_5w1s", "--seeds", "1") == 0
    (checkout / "slow").touch()
    assert ended("maml_omniglot_5w1s", "--seeds", "1", "--again", "--minutes", "0.02") == 75
    assert "the same command without --again goes on with them" in capsys.readouterr().out
    (checkout / "slow").unlink()
    assert ended("maml_omniglot_5w1s", "--seeds", "1") == 0
    first, again, is_resumed = (checkout / "calls").read_text().splitlines()
    assert first == is_resumed == f"{again} --resume auto"
    assert len(json.loads((checkout / "results/maml_omniglot_5w1s.json").read_text())["runs"]) == 1


def test_a_result_by_other_settings_is_no_result(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("maml_omniglot_5w1s", "--seeds", "0") == 0
    path = checkout / "results/maml_omniglot_5w1s.json"
    known = json.loads(path.read_text())["runs"][0]["shipped_configuration"]
    path.write_text(path.read_text().replace(known, "0" * 12))
    assert ended("maml_omniglot_5w1s", "--seeds", "1") == 0
    assert "no other seed of these iterations is there to compare with" in capsys.readouterr().out
    assert ended("maml_omniglot_5w1s", "--seeds", "0") == 0
    assert [run["seed"] for run in json.loads(path.read_text())["runs"]] == [0, 1]
    assert len((checkout / "calls").read_text().splitlines()) == 3


def test_without_a_name_all_cells_are_done(checkout: Path) -> None:
    assert ended("--iterations", "10", "--jobs", "4") == 0
    done = {path.stem for path in (checkout / "results").glob("*.json")}
    assert {"maml_omniglot_5w1s", "reptile_omniglot_20w5s", "protonet_omniglot_within_alphabet_20w5s"} <= done
    assert len(json.loads((checkout / "results/protonet_omniglot_5w1s.json").read_text())["runs"]) == 3
    calls = (checkout / "calls").read_text().splitlines()
    assert len(set(calls)) == len(calls)


def test_a_failure_is_one_line_and_the_others_go_on(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "broken").touch()
    assert ended("maml_omniglot_5w1s", "fomaml_omniglot_5w1s", "--seeds", "0") == 1
    err = capsys.readouterr().err
    assert err.splitlines() == [
        f"error: {name}_omniglot_5w1s, seed 0: the disk is full "
        f"(the rest: runs/reproduction/logs/{name}_omniglot_5w1s-seed-0.log)"
        for name in ("maml", "fomaml")
    ]
    assert not (checkout / "results").exists()


def test_after_the_minutes_the_training_is_stopped(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "slow").touch()
    began = time.monotonic()
    assert ended("maml_omniglot_5w1s", "fomaml_omniglot_5w1s", "--seeds", "0", "--minutes", "0.02") == 75
    assert time.monotonic() - began < 30
    assert "2 of 2 trainings are not at their end: the same command goes on with them." in capsys.readouterr().out
    assert not (checkout / "results").exists()


def test_a_signal_stops_the_training_and_says_so(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "slow").touch()
    thread = in_a_while(lambda: os.kill(os.getpid(), signal.SIGTERM), checkout / "started")
    assert ended("maml_omniglot_5w1s", "--seeds", "0") == 143
    thread.join()
    assert "1 of 1 trainings are not at their end" in capsys.readouterr().out


def test_a_stopped_command_is_told_from_a_failed_one(checkout: Path) -> None:
    (checkout / "slow").touch()
    commands = Commands(1)
    thread = in_a_while(commands.stop, checkout / "started")
    fit = ["fit", "--config", "configs/maml_omniglot_5w1s.yaml", "--trainer.default_root_dir", "runs"]
    with pytest.raises(StoppedCommand):
        commands.run(fit, checkout / "logs/a.log")
    thread.join()
    with pytest.raises(StoppedCommand):
        commands.run(fit, checkout / "logs/a.log")
    (checkout / "broken").touch()
    (checkout / "slow").unlink()
    with pytest.raises(FailedCommand, match="the disk is full"):
        Commands(1).run(fit, checkout / "logs/a.log")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("maml_omnigolt_5w1s",), "there is no experiment maml_omnigolt_5w1s; did you mean maml_omniglot_5w1s?"),
        (("x",), "there is no experiment x; ARGS=--list names all"),
        (("--seeds", "x"), "argument --seeds: invalid int value: 'x'"),
        (("--minutes", "nan"), "MINUTES must be above 0, got nan"),
        (("--iterations", "0"), "ITERATIONS must be above 0, got 0"),
        (("--minutes", "-1"), "MINUTES must be above 0, got -1"),
        (("--jobs", "0"), "JOBS must be above 0, got 0"),
        (("maml_omniglot_5w1s", "--iterations", "70000"), "maml_omniglot_5w1s takes 60,000 iterations"),
        (("--data", "nowhere"), "DATA=nowhere: there is no such folder"),
    ],
)
def test_bad_input_is_one_line(arguments, says, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(*arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {says}")
    assert len(err.splitlines()) == 1
    assert not (checkout / "calls").exists()


def test_a_mistake_is_answered_at_once() -> None:
    """Nothing heavy is imported: torch takes seconds, and its memory would stay beside that of the trainings."""
    heavy = "import sys, reproduction.__main__; print({'torch', 'pytorch_lightning', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
