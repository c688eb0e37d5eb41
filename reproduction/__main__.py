"""`python -m reproduction`, or `make reproduce`: trains and tests cells of the papers' tables."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from app.arguments import did_you_mean
from app.data_folder import data_folder
from app.errors import UsageError, one_line_errors
from app.signals import StopSignals
from reproduction import result_files
from reproduction.ablations import ABLATIONS
from reproduction.cells import CELLS, Cell
from reproduction.commands import Commands, FailedCommand, StoppedCommand
from reproduction.report import say_found, say_planned
from reproduction.result import make_result
from reproduction.result_files import RESULTS
from reproduction.training import ROOT, Training

Plan = dict[Training, list[Cell]]
DONE, PAUSED, FAILED = "done", "paused", "failed"


def main(arguments: Sequence[str] | None = None) -> None:
    """Reproduces the cells that are asked for, or all that have no result yet."""
    with one_line_errors(), StopSignals() as signals:
        chosen = parse(arguments)
        plan = plan_of(chosen)
        say_planned(plan, chosen.iterations)
        outcomes, stopped = run(plan, chosen)
        if paused := outcomes.count(PAUSED):
            print(f"{paused} of {len(plan)} trainings are not at their end: the same command goes on with them.")
        if stopped:
            sys.exit(signals.exit_code)
        if FAILED in outcomes:
            sys.exit(1)


def run(plan: Plan, chosen: argparse.Namespace) -> tuple[list[str], bool]:
    """Runs all trainings and tests, several at once, for some minutes or to their end.

    Returns:
        How each of them ended, and whether a signal has stopped them.
    """
    commands, stopped = Commands(min(chosen.jobs, len(plan))), False
    with ThreadPoolExecutor(chosen.jobs) as pool:
        futures = [pool.submit(reproduce, training, cells, chosen, commands) for training, cells in plan.items()]
        try:
            wait(futures, None if chosen.minutes is None else 60 * chosen.minutes)
        except KeyboardInterrupt:
            stopped = True
        commands.stop()
    return [future.result() for future in futures], stopped


def reproduce(training: Training, cells: list[Cell], chosen: argparse.Namespace, commands: Commands) -> str:
    """Trains, and leaves the result of every cell that is tested on it.

    Returns:
        How it ended.
    """
    try:
        trained_in = commands.run(training.fit(chosen.data), ROOT / training.log, training.title)
        for cell in cells:
            tested_in = trained_in
            if cell.test_options is not None:
                tested_in = commands.run(training.test(cell, trained_in, chosen.data), ROOT / training.log)
            found = make_result(cell, training, trained_in, tested_in)
            others = [known for known in result_files.load(cell, chosen.results) if known["seed"] != training.seed]
            say_found(cell, found, others, result_files.add(cell, found, chosen.results))
    except StoppedCommand:
        return PAUSED
    except FailedCommand as error:
        print(f"error: {training.title}: {error}", file=sys.stderr, flush=True)
        return FAILED
    return DONE


def plan_of(chosen: argparse.Namespace) -> Plan:
    """The trainings that are needed, each with the cells that are tested on it.

    Raises:
        UsageError: If a cell is unknown, or more iterations are asked for than it has.
    """
    known = CELLS | ABLATIONS
    for name in chosen.cells:
        if name not in known:
            raise UsageError(f"there is no cell {name}{did_you_mean(name, known) or '; --list names all'}")
    plan: Plan = {}
    for name in chosen.cells or CELLS:
        cell = known[name]
        there = result_files.load(cell, chosen.results)
        for seed in chosen.seeds or cell.seeds:
            training = Training.of(cell, seed, chosen.iterations)
            if chosen.again or not any(result_files.is_of(run, seed, training.length) for run in there):
                plan.setdefault(training, []).append(cell)
    return plan


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        UsageError: If an option's value has no sense.
    """
    parser = argparse.ArgumentParser(prog="python -m reproduction", description=__doc__)
    parser.add_argument("cells", nargs="*", metavar="CELL", help="e.g. maml_omniglot_5w1s; none: all without a result")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0, and 1 and 2 for 5-way 1-shot")
    parser.add_argument("--iterations", type=int, help="outer steps, fewer than the paper's; the result says so")
    parser.add_argument("--minutes", type=float, help="stop after this time; the same command goes on")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, on one GPU or several cores")
    parser.add_argument("--data", type=Path, default=data_folder(), help="folder that holds omniglot/")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the cells' files")
    parser.add_argument("--again", action="store_true", help="cells that have a result too")
    parser.add_argument("--list", action="store_true", help="print the names of all cells and end")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        print("\n".join([*CELLS, *ABLATIONS]))
        sys.exit(0)
    for name in ("iterations", "minutes", "jobs"):
        value = getattr(chosen, name)
        if value is not None and value <= 0:
            raise UsageError(f"{name.upper()} must be above 0, got {value:g}")
    chosen.seeds = list(dict.fromkeys(chosen.seeds)) if chosen.seeds else None
    if chosen.data is not None and not chosen.data.is_dir():
        raise UsageError(f"DATA={chosen.data}: there is no such folder; give the one that holds omniglot/")
    if chosen.data is not None:
        chosen.data = chosen.data.resolve()
    return chosen


if __name__ == "__main__":
    main()
