"""How the outer step's time and peak memory grow with the number of tasks, of inner steps and of pixels."""

import dataclasses
import math
from collections.abc import Sequence

import torch

from benchmarks import memory
from benchmarks.cases import Case
from benchmarks.contestants import our_step
from benchmarks.fresh_process import fresh_pool
from benchmarks.options import Options
from benchmarks.table import Row, Table
from benchmarks.timing import compare

BASE, BASE_TASKS = Case(1, 1, 1), 16
TASKS = {"cpu": (4, 8, 16, 32, 64), "cuda": (16, 32, 64, 128, 256, 512)}
INNER_STEPS = (1, 2, 3, 5, 8)
IMAGE_SIZES = (28, 56, 84, 112)
COLUMNS = {"varied": 12, "value": 6, "strategy": 10, "seconds": 8, "peak_mib": 9, "time_exponent": 13}
COLUMNS |= {"memory_exponent": 15}


def run(options: Options) -> list[Row]:
    """A row for each point, and after each series one with the exponents of the power laws fitted to it."""
    table, rows = Table(COLUMNS), []
    series = series_of(options.device)
    seconds = options.seconds / sum(len(points) for points in series.values())
    for varied, points in series.items():
        measured = []
        for value, (case, n_tasks) in points.items():
            row: Row = {"varied": varied, "value": value}
            row |= in_fresh_process(case, n_tasks, options.device, seconds)
            measured.append(row)
            table.add(row)
        fit: Row = {"varied": varied, "value": "fit", **fitted(measured)}
        table.add(fit)
        rows += [*measured, fit]
    return rows


def series_of(device: torch.device) -> dict[str, dict[int, tuple[Case, int]]]:
    """Returns what is varied -> value -> the case and its number of tasks; all else is as in `BASE`."""
    return {
        "n_tasks": {n_tasks: (BASE, n_tasks) for n_tasks in TASKS[device.type]},
        "inner_steps": {n: (dataclasses.replace(BASE, inner_steps=n), BASE_TASKS) for n in INNER_STEPS},
        "image_size": {size: (dataclasses.replace(BASE, image_size=size), BASE_TASKS) for size in IMAGE_SIZES},
    }


def in_fresh_process(case: Case, n_tasks: int, device: torch.device, seconds: float) -> Row:
    """`measure`, on a CPU in a process of its own: what another call freed would be used again and not be seen."""
    if device.type == "cuda":
        return measure(case, n_tasks, device, seconds)
    with fresh_pool(device, __name__) as pool:
        return pool.apply(measure, (case, n_tasks, device, seconds))


def measure(case: Case, n_tasks: int, device: torch.device, seconds: float) -> Row:
    """Median time and peak memory of the step that users get."""
    our_step("auto", case, 1, device)()  # loads what every step needs
    step = our_step("auto", case, n_tasks, device)
    peak = memory.peak_during(step, device)
    timing = compare({"step": step}, seconds / 2, device)["step"]
    return {
        "strategy": step.learner.task_strategy if step.learner else None,
        "seconds": timing.median,
        "rounds": timing.rounds,
        "peak_mib": None if peak is None else peak / 2**20,
    }


def fitted(rows: Sequence[Row]) -> Row:
    """The exponents of time and memory against the value that is varied; None where the system gave no memory."""
    values = numbers(rows, "value")
    exponents: Row = {}
    for name, key in (("time_exponent", "seconds"), ("memory_exponent", "peak_mib")):
        results = numbers(rows, key)
        exponents[name] = exponent(values, results) if len(results) == len(values) else None
    return exponents


def numbers(rows: Sequence[Row], key: str) -> list[float]:
    """The positive numbers under a key."""
    return [float(value) for row in rows if isinstance(value := row[key], int | float) and value > 0]


def exponent(values: Sequence[float], results: Sequence[float]) -> float:
    """The power b of results = a * values^b, by least squares between the logarithms."""
    xs, ys = [math.log(value) for value in values], [math.log(result) for result in results]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return covariance / sum((x - mean_x) ** 2 for x in xs)
