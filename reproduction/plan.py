"""What there is to do: the trainings of the cells that have no result yet."""

import argparse

from app.command_line.arguments import did_you_mean
from app.process.errors import UsageError
from reproduction import result_files
from reproduction.ablations import ABLATIONS
from reproduction.cells import CELLS, Cell
from reproduction.shipped import iterations_of
from reproduction.training import Training

Plan = dict[Training, list[Cell]]


def plan_of(chosen: argparse.Namespace) -> Plan:
    """The trainings that are needed, each with the cells that are tested on it.

    Args:
        chosen: What `parse` returned.

    Raises:
        UsageError: If a cell is unknown, or named and has fewer iterations than are asked for.
    """
    known = CELLS | ABLATIONS
    for name in chosen.cells:
        if name not in known:
            raise UsageError(f"there is no cell {name}{did_you_mean(name, known) or '; ARGS=--list names all'}")
    plan: Plan = {}
    for cell in [known[name] for name in chosen.cells or CELLS]:
        for seed in chosen.seeds or cell.seeds:
            training = Training.of(cell, seed, _length(cell, chosen))
            if chosen.again or not result_files.has(cell, seed, training.length, chosen.results):
                plan.setdefault(training, []).append(cell)
    return plan


def _length(cell: Cell, chosen: argparse.Namespace) -> int | None:
    """What is asked for; of all cells at once, each one's own where it has fewer."""
    if chosen.iterations is None or chosen.cells:
        return chosen.iterations
    return min(chosen.iterations, iterations_of(cell.config))
