"""Ways of computing the outer step that were tried, and what was expected of each before it was measured."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from benchmarks.cases import Case, Gradients, Step
from benchmarks.contestants import our_step
from benchmarks.fresh_process import Make
from benchmarks.whole_step import compiled_step, plain_batch_norm
from modules.functional.inner_loop import Loss, Update, inner_loop
from modules.functional.tasks.networks import Variables
from modules.functional.tasks.per_task import BATCHED_OPERATIONS
from modules.learner import gradient_learner

THREADS, THREAD_CHUNK = 2, 8


@dataclass(frozen=True)
class Variant:
    """One way that was tried.

    Args:
        name: As the tables have it.
        expected: Kind of device -> speed as a multiple of the step's as it is, as guessed before measuring; on another
            kind it is not tried.
        make: (case, T, device) -> its step.
        kept: "no", or "option" where users can choose it.
        note: For its row.
        alone: Whether it is computed in a fresh process, and the step as it is that it is compared with in another.
        keeps_memory: Whether the allocator of that process keeps what is freed.
        compiles: Whether its first call may take minutes.
    """

    name: str
    expected: Mapping[str, float]
    make: Make
    kept: str = "no"
    note: str = ""
    alone: bool = False
    keeps_memory: bool = True
    compiles: bool = False


def variants(device: torch.device) -> list[Variant]:
    """Those that are tried on a kind of device."""
    return [variant for variant in VARIANTS if device.type in variant.expected]


def everywhere(expected: float) -> dict[str, float]:
    """The same expectation of every kind of device."""
    return {"cpu": expected, "cuda": expected}


def inside(surroundings: Callable[[], AbstractContextManager[Any]], case: Case, n: int, device: torch.device) -> Step:
    """The step as it is, each call within a context."""
    step = our_step("auto", case, n, device)

    def compute() -> Gradients:
        with surroundings():
            return step()

    return Step(compute, step.learner)


def plain_norms() -> AbstractContextManager[Any]:
    """Batch normalisation of many tasks without a second derivative of its own."""
    return mock.patch.dict(BATCHED_OPERATIONS, {functional.batch_norm: plain_batch_norm})


def autocast(device_type: str) -> AbstractContextManager[Any]:
    """Matrix products in bfloat16."""
    return torch.autocast(device_type, torch.bfloat16)


def autocast_step(case: Case, n_tasks: int, device: torch.device) -> Step:
    """The step as it is in bfloat16."""
    return inside(partial(autocast, device.type), case, n_tasks, device)


@contextlib.contextmanager
def tf32_products() -> Iterator[None]:
    """Matrix products of float32 numbers of which 10 bits behind the point are read."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def checkpointed_losses() -> AbstractContextManager[Any]:
    """Inner loops whose support losses are computed again instead of being kept."""

    def loop(support_loss: Loss, *arguments: Any, **named: Any) -> Iterator[Variables]:
        def recomputed(step: int, params: Variables) -> Tensor:
            return checkpoint(support_loss, step, params, use_reentrant=False)

        return inner_loop(recomputed, *arguments, **named)

    return mock.patch.object(gradient_learner, "inner_loop", loop)


def checkpointed_steps() -> AbstractContextManager[Any]:
    """Inner loops whose steps, gradient and all, are computed again instead of being kept."""

    def loop(
        support_loss: Loss, params: Variables, update: Update, steps: int, *arguments: Any, **named: Any
    ) -> Iterator[Variables]:
        def one_step(step: int, params: Variables) -> Variables:
            def loss(_: int, params: Variables) -> Tensor:
                return support_loss(step, params)

            *_, last = inner_loop(loss, params, update, 1, *arguments, **named)
            return last

        yield params
        for step in range(steps):
            params = checkpoint(one_step, step, params, use_reentrant=False)
            yield params

    return mock.patch.object(gradient_learner, "inner_loop", loop)


def threaded_step(case: Case, n_tasks: int, device: torch.device) -> Step:
    """A half of the tasks in each of two threads, in chunks; the gradients are added in the tasks' order."""
    episode, bounds = case.episode(n_tasks, device), [n_tasks * part // THREADS for part in range(THREADS + 1)]
    halves = [episode.tasks(start, stop) for start, stop in pairwise(bounds) if stop > start]
    # One for each thread: while a network is called with other weights, these stand in its own place.
    learners = [case.learner("auto", device, THREAD_CHUNK) for _ in halves]

    def compute() -> Gradients:
        with single_threads(len(halves)) as pool:
            parts = list(pool.map(lambda learner, half: learner.batch_gradient(half), learners, halves))
        shares = [len(half.task_id) / n_tasks for half in halves]
        total: Gradients = {}
        for name, parameter in learners[0].network.named_parameters():
            weighted = [p.gradients[f"network.{name}"] * share for p, share in zip(parts, shares, strict=True)]
            parameter.grad = total[name] = torch.stack(weighted).sum(0)
        return total

    return Step(compute)


@contextlib.contextmanager
def single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads whose operations have no threads of their own; afterwards this thread's setting is as before."""
    before, started = torch.get_num_threads(), threading.Barrier(count)

    def start() -> None:
        torch.get_num_threads()  # else torch sets up this thread later, and by the number of the whole process
        torch.set_num_threads(1)
        started.wait()  # until all are there: no thread gets a second job before another has its first

    try:
        with ThreadPoolExecutor(count, initializer=start) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


# The expectations are older than the first measurement; what came out does not change them.
VARIANTS = (
    Variant(
        "vmap (grouped convolutions)",
        everywhere(0.5),
        partial(our_step, "vmap"),
        "option",
        "outer.task_strategy; for layers without a hand-written form",
    ),
    Variant(
        "task by task (loop)", everywhere(0.4), partial(our_step, "loop"), "option", "outer.task_strategy; for one task"
    ),
    Variant("autograd's own batch normalisation", everywhere(0.75), partial(inside, plain_norms)),
    Variant(
        "memory given back after every step",
        {"cpu": 0.8},
        partial(our_step, "auto"),
        note="both in fresh processes",
        alone=True,
        keeps_memory=False,
    ),
    Variant("two threads, each with its own chunks", {"cpu": 1.2}, threaded_step, note=f"chunks of {THREAD_CHUNK}"),
    Variant("autocast to bfloat16", {"cpu": 0.8, "cuda": 1.5}, autocast_step, "option", "trainer.precision"),
    Variant(
        "chunks of 8 tasks", everywhere(0.9), partial(our_step, "auto", task_chunk=8), "option", "outer.task_chunk"
    ),
    Variant(
        "chunks of 2 tasks", everywhere(0.6), partial(our_step, "auto", task_chunk=2), "option", "outer.task_chunk"
    ),
    Variant("checkpointing of support losses", everywhere(0.75), partial(inside, checkpointed_losses)),
    Variant("checkpointing of whole inner steps", everywhere(0.75), partial(inside, checkpointed_steps)),
    Variant("torch.compile of the whole step", everywhere(1.5), compiled_step, alone=True, compiles=True),
    Variant("CUDA graph", {"cuda": 5.0}, partial(our_step, "auto", cuda_graph=True), "option", "outer.cuda_graph"),
    Variant("TF32 products", {"cuda": 1.3}, partial(inside, tf32_products)),
)
