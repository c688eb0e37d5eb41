"""The outer step's share of what the machine can do: its arithmetic done as ordinary training of the same network."""

import time
from collections.abc import Callable
from itertools import product, starmap
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import memory
from benchmarks.cases import CONV4_CASES, Case, Step
from benchmarks.contestants import our_step
from benchmarks.options import Options
from benchmarks.table import Row, Table
from benchmarks.timing import compare

LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
BATCH_SIZES = tuple(2**power for power in range(5, 13))  # 32 ... 4096
N_TASKS = {"cpu": (32,), "cuda": (32, 128, 512)}
COLUMNS = {
    "case": 24,
    "n_tasks": 7,
    "strategy": 10,
    "cuda_graph": 10,
    "gflop": 8,
    "seconds": 8,
    "gflop_per_second": 16,
    "dense_gflop_per_second": 22,
    "dense_batch_size": 16,
    "dense_layout": 13,
    "fraction_of_dense": 17,
}


class Dense(NamedTuple):
    """How ordinary training goes over its images.

    Args:
        layout: Of `LAYOUTS`.
        batch_size: Images at once.
    """

    layout: str
    batch_size: int


def run(options: Options) -> list[Row]:
    """A row for each case and number of tasks, with what `auto` chooses; on a GPU also as a CUDA graph."""
    table, rows, device = Table(COLUMNS), [], options.device
    end = time.perf_counter() + options.seconds
    dense = best_dense(CONV4_CASES[0], device, options.seconds / 3)
    graphs = (False, True) if device.type == "cuda" else (False,)
    cells = [(case, n_tasks, graph) for n_tasks in N_TASKS[device.type] for case in CONV4_CASES for graph in graphs]
    for position, (case, n_tasks, graph) in enumerate(cells):
        seconds = (end - time.perf_counter()) / (len(cells) - position)
        row: Row = {"case": case.name, "n_tasks": n_tasks, "cuda_graph": graph}
        try:
            step = our_step("auto", case, n_tasks, device, cuda_graph=graph)
            row |= share(step, case, n_tasks, dense, seconds, device)
            del step
        except (RuntimeError, MemoryError) as error:  # out of memory, mostly
            row["note"] = f"failed: {str(error).splitlines()[0][:100]}"
        memory.release(device)
        table.add(row)
        rows.append(row)
    return rows


def share(step: Step, case: Case, n_tasks: int, best: Dense, seconds: float, device: torch.device) -> Row:
    """Times the step in turns with as many batches of dense training as have its number of operations."""
    batch = dense_training(case, best, device)
    operations, batch_operations = outer_step_operations(case, device) * n_tasks, operations_of(batch)
    batches = max(1, round(operations / batch_operations))

    def dense() -> None:
        for _ in range(batches):
            batch()

    timings = compare({"step": step, "dense": dense}, seconds / 2, device)
    speed, dense_speed = operations / timings["step"].median, batches * batch_operations / timings["dense"].median
    return {
        "strategy": step.learner.task_strategy if step.learner else None,
        "gflop": operations / 1e9,
        "seconds": timings["step"].median,
        "rounds": timings["step"].rounds,
        "gflop_per_second": speed / 1e9,
        "dense_gflop_per_second": dense_speed / 1e9,
        "dense_batch_size": best.batch_size,
        "dense_layout": best.layout,
        "fraction_of_dense": speed / dense_speed,
    }


def outer_step_operations(case: Case, device: torch.device) -> int:
    """Floating-point operations of one task's share in an outer step.

    Counted over the strategy "loop", whose convolutions are plain ones and which does nothing twice; other strategies
    may do more to be faster, and that is not credited to them.
    """
    return operations_of(our_step("loop", case, 1, device))


def operations_of(call: Callable[[], object]) -> int:
    """Floating-point operations of a call's convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def dense_training(case: Case, dense: Dense, device: torch.device) -> Callable[[], object]:
    """Forward and backward pass of the case's network over a batch, as in training an ordinary classifier."""
    batch_size, memory_format = dense.batch_size, LAYOUTS[dense.layout]
    network = case.plain_network(device).to(memory_format=memory_format)  # type: ignore[call-overload]
    images = torch.rand(batch_size, *case.image_shape, device=device, dtype=case.dtype)
    images = images.contiguous(memory_format=memory_format)
    labels, loss = torch.arange(batch_size, device=device) % case.n_way, nn.CrossEntropyLoss()

    def step() -> object:
        for parameter in network.parameters():
            parameter.grad = None
        loss(network(images), labels).backward()
        return None

    return step


def best_dense(case: Case, device: torch.device, seconds: float) -> Dense:
    """The layout and batch size at which dense training makes most images per second; a line says how many."""
    steps = {dense: dense_training(case, dense, device) for dense in starmap(Dense, product(LAYOUTS, BATCH_SIZES))}
    timings = compare({str(dense): step for dense, step in steps.items()}, seconds, device)
    speeds = {dense: dense.batch_size / timings[str(dense)].median for dense in steps}
    best = max(steps, key=lambda dense: speeds[dense])
    print(f"dense training is fastest in {best.layout}, batches of {best.batch_size}: {speeds[best]:,.0f} images/s")
    return best
