"""The command line of `python -m reproduction`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from app.files.data_folder import data_folder
from app.process.errors import UsageError
from reproduction.experiments import EXPERIMENTS
from reproduction.record_files import RESULTS


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        UsageError: If an option is unknown, or its value makes no sense.
    """
    parser = _Parser(prog="python -m reproduction", description="Trains and tests experiments of the papers' tables.")
    parser.add_argument(
        "experiments", nargs="*", metavar="EXPERIMENT", help="e.g. maml_omniglot_5w1s; none: all without a result"
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0, and 1 and 2 for 5-way 1-shot")
    parser.add_argument("--iterations", type=int, help="outer steps, fewer than the paper's; the result says so")
    parser.add_argument("--minutes", type=float, help="stop after this time; the same command goes on")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, on one GPU or several cores")
    parser.add_argument("--data", type=Path, help="folder that holds omniglot/; default: QUICKSTUDY_DATA, or data/")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the experiments' files")
    parser.add_argument("--again", action="store_true", help="train anew what has a result too")
    parser.add_argument("--list", action="store_true", help="print the names of all experiments and end")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        print("\n".join(EXPERIMENTS))
        sys.exit(0)
    for name in ("iterations", "minutes", "jobs"):
        value = getattr(chosen, name)
        if value is not None and not value > 0:
            raise UsageError(f"{name.upper()} must be above 0, got {value:g}")
    chosen.seeds = list(dict.fromkeys(chosen.seeds)) if chosen.seeds else None
    if chosen.data is not None and not chosen.data.is_dir():
        raise UsageError(f"DATA={chosen.data}: there is no such folder; give the one that holds omniglot/")
    folder = chosen.data or data_folder()
    chosen.data = None if folder is None else folder.resolve()
    return chosen
