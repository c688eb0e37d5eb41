"""`fit` on Omniglot from the command to the result, beside learn2learn's example loop for Lightning."""

import importlib.util
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.omniglot_images import omniglot
from benchmarks.options import Options
from benchmarks.peers import learn2learn_lightning
from benchmarks.table import Row, Table

OURS, REFERENCE = "quickstudy", learn2learn_lightning.NAME
STEPS, N_TASKS = 100, 32  # outer steps and the tasks of each
STEPS_PER_VALIDATION, VALIDATION_TASKS = 10, 320  # the example's; the test at the end has as many tasks
COLUMNS = {
    "contestant": 22,
    "steps": 5,
    "n_tasks": 7,
    "seconds": 8,
    "ratio_to_learn2learn": 20,
    "test_accuracy": 13,
    "rounds": 6,
}


@dataclass
class Contestant:
    """A program that trains and tests.

    Args:
        command: Its command line, given the folder for what it writes.
        accuracy: Reads the test's accuracy from that folder and from what the program printed.
    """

    command: Callable[[Path], list[str]]
    accuracy: Callable[[Path, str], float]
    seconds: list[float] = field(default_factory=list)
    score: float | None = None
    note: str | None = None

    def run(self) -> None:
        """Runs the program in a process of its own and takes its time; a failure becomes the note."""
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            done = subprocess.run(self.command(Path(folder)), cwd=ROOT, capture_output=True, text=True, check=False)
            seconds = time.perf_counter() - start
            if done.returncode:
                lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
                self.note = f"failed: {lines[-1][:100]}"
                return
            self.seconds.append(seconds)
            self.score = self.accuracy(Path(folder), done.stdout)


def run(options: Options) -> list[Row]:
    """A row for each contestant; they take turns, one round at least, and more where the time allows."""
    if options.data is None:
        print("end_to_end: no images; name the folder that holds omniglot/ with --data or QUICKSTUDY_DATA")
        return []
    omniglot(options.data)  # fills the image cache, which both sides find
    entered = contestants(options.data.absolute(), options.device.type)
    start = time.perf_counter()
    rounds, took = 0, 0.0
    while not rounds or (took / rounds) * (rounds + 1) < options.seconds:
        for contestant in entered.values():
            contestant.run()
        rounds, took = rounds + 1, time.perf_counter() - start
    table, rows = Table(COLUMNS), []
    for name in entered:
        rows.append(row(name, entered))
        table.add(rows[-1])
    return rows


def contestants(data: Path, device: str) -> dict[str, Contestant]:
    """Ours, and the peer where it is installed; else a line is printed."""
    entered = {OURS: Contestant(lambda folder: our_command(data, folder, device), our_accuracy)}
    if importlib.util.find_spec("learn2learn") is None:
        print(f"{REFERENCE} is left out: No module named 'learn2learn' (pip install -r requirements.txt)")
    else:
        entered[REFERENCE] = Contestant(lambda folder: peer_command(data, folder, device), peer_accuracy)
    return entered


def row(name: str, entered: dict[str, Contestant]) -> Row:
    """A contestant's figures."""
    contestant = entered[name]
    medians = {other: statistics.median(c.seconds) for other, c in entered.items() if c.seconds}
    figures: Row = {"contestant": name, "data": "Omniglot 5w1s 1 query 28x28", "steps": STEPS, "n_tasks": N_TASKS}
    figures |= {"validations": STEPS // STEPS_PER_VALIDATION, "validation_tasks": VALIDATION_TASKS}
    if name in medians:
        figures |= {
            "seconds": medians[name],
            "fastest": min(contestant.seconds),
            "slowest": max(contestant.seconds),
            "rounds": len(contestant.seconds),
            "ratio_to_learn2learn": medians[REFERENCE] / medians[name] if REFERENCE in medians else None,
            "test_accuracy": contestant.score,
        }
    return figures | {"note": contestant.note}


def our_command(data: Path, folder: Path, device: str) -> list[str]:
    """The shipped configuration without W&B, evaluated with one inner step as the example does."""
    changes = {
        "trainer.max_steps": STEPS,
        "trainer.val_check_interval": STEPS_PER_VALIDATION,
        "trainer.accelerator": "gpu" if device == "cuda" else "cpu",
        "trainer.devices": 1,
        "trainer.default_root_dir": folder,
        "data.meta_batch_size": N_TASKS,
        "data.evaluation.n_val_tasks": VALIDATION_TASKS,
        "data.evaluation.n_test_tasks": VALIDATION_TASKS,
        "data.root": data,
        "data.download": "false",
        "model.eval_inner_steps": 1,
    }
    command = [sys.executable, "train.py", "fit", "--config", "configs/maml_omniglot_5w1s.yaml"]
    command += ["--config", "configs/wandb_off.yaml"]
    return command + [text for name, value in changes.items() for text in (f"--{name}", str(value))]


def our_accuracy(folder: Path, printed: str) -> float:
    """The accuracy in the run's results.json."""
    (results,) = folder.rglob("results.json")
    return float(json.loads(results.read_text("utf-8"))["accuracy"])


def peer_command(data: Path, folder: Path, device: str) -> list[str]:
    """The example loop with the same steps, tasks and validations."""
    command = [sys.executable, "-m", learn2learn_lightning.__name__, "--data", str(data), "--folder", str(folder)]
    command += ["--device", device, "--steps", str(STEPS), "--tasks", str(N_TASKS)]
    command += ["--steps_per_validation", str(STEPS_PER_VALIDATION), "--validation_tasks", str(VALIDATION_TASKS)]
    return command


def peer_accuracy(folder: Path, printed: str) -> float:
    """The accuracy that the example loop prints."""
    found = re.search(r"^test_accuracy ([\d.]+)", printed, re.MULTILINE)
    assert found, "the example loop printed no accuracy"
    return float(found[1])
