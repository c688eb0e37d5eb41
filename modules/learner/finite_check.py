"""Stops a training whose loss or gradient is not finite any more, before it reaches the weights or a checkpoint."""

import math
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm

from datamodules.episode import Episode
from modules.learner.outer_gradient import OuterGradient
from modules.learner.outer_loop import OuterLoop
from modules.learner.ranks import reduced

LISTED = 5  # task numbers that a message lists
COLLAPSED = (
    ", and not because float16 overflows: its loss scale has fallen to 1, and all steps since the last finite gradient "
    "were left out"
)


class NotFiniteError(ArithmeticError):
    """A loss or a gradient is infinite or not a number."""


class Trained(Protocol):
    """What is known of a learner in training."""

    outer: OuterLoop

    @property
    def trainer(self) -> Trainer:
        """The Trainer that trains it."""

    @property
    def device(self) -> torch.device:
        """Tells where it is."""

    @property
    def last_step_at(self) -> int:
        """The training batches that the newest outer step had behind it."""

    def batch_gradient(self, episode: Episode) -> OuterGradient:
        """The outer gradient of T tasks."""


class FiniteCheck:
    """Looks at every outer step, a mean over the tasks of all ranks, so that all ranks find the same.

    On a CPU at once. On a GPU, where reading a number waits for all that is still to be computed, the first step that
    went wrong is remembered there, and read before anything is logged or saved.
    """

    def __init__(self) -> None:
        self._first_wrong: Tensor | None = None  # () int64 on the GPU: a step, or 0

    def finds(self, step: int, gradient: OuterGradient, scaled: bool) -> bool:
        """Tells whether a step that is about to be taken is known to be wrong.

        Args:
            step: The outer step, counted from 1.
            gradient: What it is made of.
            scaled: Whether float16's loss is scaled: then gradients overflow now and then, and their step is left out.
        """
        values = [*gradient.metrics.values()] + ([] if scaled else [*gradient.gradients.values()])
        if values[0].device.type == "cpu":
            return not _all_finite(values)
        found = torch.where(get_total_norm(values).isfinite(), 0, step)
        earlier = self._first_wrong
        self._first_wrong = found if earlier is None else torch.where(earlier > 0, earlier, found)
        return False

    def forget(self) -> None:
        """Begins anew, as for another training."""
        self._first_wrong = None

    def remembered(self) -> int | None:
        """The first step that went wrong on a GPU, if one did."""
        return (int(self._first_wrong) or None) if self._first_wrong is not None else None


def stop_training(learner: Trained, step: int, batches: Sequence[Episode] = (), more: str = "") -> NoReturn:
    """Ends a training that is not finite any more; on every rank with the same words.

    Args:
        learner: The learner, as it was before the step where `batches` are given.
        step: The outer step, counted from 1.
        batches: The step's episodes on this rank, to find the tasks at fault.
        more: What is also known, as a clause.

    Raises:
        NotFiniteError: Always.
    """
    trainer, outer = learner.trainer, learner.outer
    data = getattr(trainer, "datamodule", None)
    n_local = max((len(episode.task_id) for episode in batches), default=0)
    n_tasks = getattr(data, "meta_batch_size", n_local * trainer.world_size) * outer.accumulate_batches
    first = torch.tensor(_first_task(learner, step, n_tasks), device=learner.device)
    if batches:
        first = torch.stack([episode.task_id.min() for episode in batches]).min()
        first = reduced(first, trainer.strategy, "min") if trainer.world_size > 1 else first
    tasks = range(int(first), int(first) + n_tasks)
    at_fault = torch.zeros(n_tasks, device=learner.device)
    for task_id in set(wrong_tasks(learner.batch_gradient, batches)) & set(tasks):
        at_fault[task_id - tasks.start] = 1
    if batches and trainer.world_size > 1:
        at_fault = reduced(at_fault, trainer.strategy, "sum")
    raise NotFiniteError(describe(step, tasks, [tasks[i] for i in at_fault.nonzero().flatten().tolist()], more))


def _first_task(learner: Trained, step: int, n_tasks: int) -> int:
    """The task that an outer step begins with, by the stream: after a resume its batches may have another size."""
    stream = getattr(getattr(learner.trainer, "datamodule", None), "stream", None)
    if stream is None:
        return (step - 1) * n_tasks
    steps_since = learner.trainer.global_step - step + 1
    return int(stream.task_of(learner.last_step_at - steps_since * learner.outer.accumulate_batches))


def wrong_tasks(gradient_of: Callable[[Episode], OuterGradient], batches: Sequence[Episode]) -> list[int]:
    """Computes the tasks of an outer step one by one to find those that are not finite by themselves.

    Args:
        gradient_of: The outer gradient of the tasks of an episode.
        batches: Episodes.

    Returns:
        Their task numbers; none where only the sum overflows.
    """
    found = []
    for episode in batches:
        for i in range(len(episode.task_id)):
            gradient = gradient_of(episode.tasks(i, i + 1))
            if not _all_finite([*gradient.metrics.values(), *gradient.gradients.values()]):
                found.append(int(episode.task_id[i]))
    return found


def _all_finite(values: Sequence[Tensor]) -> bool:
    """Looks at sums: half as long as a norm takes, and a component that is not finite makes its sum so too."""
    return all(math.isfinite(value.sum(dtype=torch.promote_types(value.dtype, torch.float32))) for value in values)


def describe(step: int, tasks: range, wrong: Sequence[int], more: str = "") -> str:
    """Returns what a user is told.

    Args:
        step: The outer step, counted from 1.
        tasks: The numbers of all its training tasks.
        wrong: Those that are known to be at fault; empty where that is not known.
        more: What is also known, as a clause.
    """
    others = ", ..." if len(wrong) > LISTED else ""
    which = f"; at fault: {', '.join(map(str, wrong[:LISTED]))}{others}" if wrong else ""
    return (
        f"the loss or its gradient is not finite at step {step:,} (training tasks {tasks.start} to {tasks.stop - 1}"
        f"{which}){more}: no checkpoint was written since. The data module's episode('train', ...) draws these tasks "
        "again. Lower the inner step size or model.outer.lr, or set model.outer.clip_norm."
    )
