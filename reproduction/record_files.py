"""results/EXPERIMENT.json: a record for each seed and number of iterations, written by the program alone."""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.files.atomic_file import write_atomically
from app.process.errors import UsageError
from reproduction.experiments import Experiment
from reproduction.record import Result
from reproduction.shipped import shipped_hash

RESULTS = Path("results")
# What pages and comparisons are made of.
NEEDED = {"seed", "accuracy", "ci95", "transductive", "n_tasks", "iterations", "iterations_asked", "tested_iteration"}
NEEDED |= {"iterations_of_protocol", "validation", "trained_by", "jobs", "commit", "shipped_configuration", "command"}


def path_of(experiment: Experiment, folder: Path) -> Path:
    """The experiment's file."""
    return folder / f"{experiment.name}.json"


def load(experiment: Experiment, folder: Path) -> list[Result]:
    """All of an experiment's records, the longest training first, then by seed; none where there is no file.

    Raises:
        UsageError: If the file is not one that the program wrote.
    """
    path = path_of(experiment, folder)
    try:
        runs = json.loads(path.read_text("utf-8"))["runs"]
        if missing := {name for run in runs for name in NEEDED - run.keys()}:
            raise KeyError(*missing)
        return sorted(runs, key=lambda run: (-run["iterations_asked"], run["seed"]))
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not what `make reproduce` writes: remove it, or take it from git") from error


def load_valid(experiment: Experiment, folder: Path) -> list[Result]:
    """An experiment's records by the settings that it has now; those by others are of another experiment."""
    return [run for run in load(experiment, folder) if run["shipped_configuration"] == shipped_hash(experiment)]


def has(experiment: Experiment, seed: int, iterations: int, folder: Path) -> bool:
    """Tells whether there is a record by the present settings."""
    return any(_is_of(run, seed, iterations) for run in load_valid(experiment, folder))


def others_of(experiment: Experiment, result: Result, folder: Path) -> list[Result]:
    """The records of other seeds, by the same settings and as long."""
    known = load_valid(experiment, folder)
    return [r for r in known if r["iterations_asked"] == result["iterations_asked"] and r["seed"] != result["seed"]]


def add(experiment: Experiment, result: Result, folder: Path) -> Path:
    """Puts a record into its experiment's file, in place of the one with the same seed and iterations.

    Returns:
        The file.
    """
    path = path_of(experiment, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        others = [
            run for run in load(experiment, folder) if not _is_of(run, result["seed"], result["iterations_asked"])
        ]
        _write(experiment, [*others, result], folder)
    return path


def remove(experiment: Experiment, seed: int, iterations: int, folder: Path) -> None:
    """Takes a record out of its experiment's file, if it is there."""
    path = path_of(experiment, folder)
    if path.is_file():
        with _locked(path.parent):
            _write(experiment, [run for run in load(experiment, folder) if not _is_of(run, seed, iterations)], folder)


def _write(experiment: Experiment, runs: list[Result], folder: Path) -> None:
    runs = sorted(runs, key=lambda run: (-run["iterations_asked"], run["seed"]))
    text = json.dumps({"experiment": experiment.name, "runs": runs}, indent=1)
    pairs_in_a_line = re.sub(r"\[\s+([\d.]+),\s+([\d.]+)\s+\]", r"[\1, \2]", text)
    write_atomically(path_of(experiment, folder), pairs_in_a_line + "\n")


def _is_of(run: Result, seed: int, iterations: int) -> bool:
    return bool(run["seed"] == seed and run["iterations_asked"] == iterations)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from reading and writing in between, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
