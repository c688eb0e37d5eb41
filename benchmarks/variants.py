"""What was tried to make the outer step faster, each beside the step as it is and what was expected of it."""

import time
from collections.abc import Mapping
from contextlib import ExitStack

import torch

from benchmarks import memory
from benchmarks.cases import CONV4_CASES, Case, Step
from benchmarks.options import Options
from benchmarks.outer_step import tasks_at_once
from benchmarks.table import Row, Table
from benchmarks.timing import Timing, compare
from benchmarks.trial import AS_IS, Trial, beside, enter, start
from benchmarks.variant_steps import Variant, variants

# With its share of the time that is left: a small case comes through on a small budget, and takes what it needs.
CASES, N_TASKS = {CONV4_CASES[0]: 0.8, CONV4_CASES[2]: 1.0}, 32
COLUMNS = {
    "case": 22,
    "variant": 38,
    "expected_ratio": 14,
    "ratio_to_auto": 13,
    "kept": 6,
    "gradient_difference": 19,
    "peak_mib": 8,
    "seconds": 8,
    "rounds": 6,
}


def run(options: Options) -> list[Row]:
    """The variants of each case, in the order in which they are listed."""
    table, rows = Table(COLUMNS), []
    end = time.perf_counter() + options.seconds
    for case, share in CASES.items():
        for row in measure(case, N_TASKS, options.device, (end - time.perf_counter()) * share):
            table.add(row)
            rows.append(row)
    return rows


def measure(case: Case, n_tasks: int, device: torch.device, seconds: float) -> list[Row]:
    """Times one case's variants; a row for each, also for those left out.

    Where the time is short, those of which most is expected come first; processes and compilers come last.
    """
    trial, tried = Trial(case, n_tasks, device, time.perf_counter() + seconds), variants(device)
    with ExitStack() as stack:
        as_is = start(trial)
        order = sorted(tried, key=lambda v: (v.compiles, v.alone, -v.expected[device.type]))
        for position, variant in enumerate(order):
            costs = [trial.cost(later) for later in order[position + 1 :] if not later.compiles]
            trial.waiting = sum(cost for cost in costs if cost < trial.left())
            enter(trial, variant, stack)
        enough = 2 * trial.planned  # a small case leaves what it does not need to the next one
        timings = compare(trial.steps, min(enough, trial.end - time.perf_counter()), device, warm_up=False)
    memory.release(device)
    common: Row = {"case": case.name, "n_tasks": n_tasks}
    rows = [common | {"variant": AS_IS, "kept": "yes", **as_it_is(trial, as_is, timings[AS_IS])}]
    return rows + [common | tried_row(trial, variant, timings) for variant in tried]


def as_it_is(trial: Trial, step: Step, timing: Timing) -> Row:
    """The figures of the step as it is, and what "auto" chose."""
    notes = []
    if learner := step.learner:
        chunk = tasks_at_once(learner, trial.n_tasks)
        notes = [learner.task_strategy, f"{chunk} tasks at a time" if chunk else ""]
    figures: Row = {"ratio_to_auto": 1.0, **trial.figures[AS_IS], **timed(timing)}
    return figures | {"note": ", ".join(note for note in notes if note)}


def tried_row(trial: Trial, variant: Variant, timings: Mapping[str, Timing]) -> Row:
    """The figures of a variant."""
    row: Row = {
        "variant": variant.name,
        "expected_ratio": variant.expected[trial.device.type],
        "kept": variant.kept,
        **trial.figures.get(variant.name, {}),
        "note": trial.notes.get(variant.name, variant.note),
    }
    if timing := timings.get(variant.name):
        row |= timed(timing) | {"ratio_to_auto": timings[beside(variant)].median / timing.median}
    return row


def timed(timing: Timing) -> Row:
    """The rounds of a step."""
    return {
        "seconds": timing.median,
        "fastest": timing.minimum,
        "slowest": timing.maximum,
        "rounds": timing.rounds,
    }
