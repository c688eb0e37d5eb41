"""results/CELL.json: a record for each seed and number of iterations, written by the program alone."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import UsageError
from app.whole_file import write_whole
from reproduction.cells import Cell
from reproduction.result import Result

RESULTS = Path("results")


def path_of(cell: Cell, folder: Path) -> Path:
    """The cell's file; that of a variant lies in a folder of its own."""
    return (folder / "ablations" if cell.base else folder) / f"{cell.name}.json"


def load(cell: Cell, folder: Path) -> list[Result]:
    """A cell's records, the longest training first, then by seed; none where there is no file.

    Raises:
        UsageError: If the file is not one that the program wrote.
    """
    path = path_of(cell, folder)
    try:
        runs = json.loads(path.read_text("utf-8"))["runs"]
        return sorted(runs, key=lambda run: (-run["iterations_asked"], run["seed"]))
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not what `make reproduce` writes: remove it, or take it from git") from error


def add(cell: Cell, result: Result, folder: Path) -> Path:
    """Puts a record into its cell's file, in place of the one with the same seed and iterations.

    Returns:
        The file.
    """
    path = path_of(cell, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        others = [run for run in load(cell, folder) if not is_of(run, result["seed"], result["iterations_asked"])]
        runs = sorted([*others, result], key=lambda run: (-run["iterations_asked"], run["seed"]))
        write_whole(path, json.dumps({"cell": cell.name, "runs": runs}, indent=1) + "\n")
    return path


def is_of(run: Result, seed: int, iterations: int) -> bool:
    """Whether a record is that of a seed and a number of iterations."""
    return bool(run["seed"] == seed and run["iterations_asked"] == iterations)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from reading and writing in between."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
