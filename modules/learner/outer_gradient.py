"""Sums of outer gradients over chunks of tasks, batches and ranks."""

from typing import NamedTuple

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor

from modules.functional.tasks.networks import Variables
from modules.learner.ranks import reduced


class OuterGradient(NamedTuple):
    """What an outer step is made of, each a mean over tasks or a weighted part of one."""

    gradients: Variables  # trainable parameter -> (*shape)
    buffers: Variables  # buffer -> (*shape): its updated value, e.g. running statistics
    metrics: Variables  # name -> ()

    def weighted(self, weight: float) -> "OuterGradient":
        """Every floating-point tensor times `weight`."""
        if weight == 1:
            return self
        scaled = [{n: v * weight if v.is_floating_point() else v for n, v in part.items()} for part in self]
        return OuterGradient(*scaled)

    def plus(self, other: "OuterGradient") -> "OuterGradient":
        """The sum; integer buffers, such as a count of batches, are the same on both sides and stay."""
        sums = []
        for mine, theirs in zip(self, other, strict=True):
            sums.append({n: v + theirs[n] if v.is_floating_point() else v for n, v in mine.items()})
        return OuterGradient(*sums)

    def mean_over_ranks(self, strategy: Strategy) -> "OuterGradient":
        """The mean over all processes, in one reduction and without a barrier."""
        tensors = [value for part in self for value in part.values() if value.is_floating_point()]
        flat = reduced(torch.cat([tensor.flatten() for tensor in tensors]), strategy, "mean")
        means = iter(flat.split([tensor.numel() for tensor in tensors]))

        def mean_of(value: Tensor) -> Tensor:
            return next(means).view(value.shape).to(value.dtype) if value.is_floating_point() else value

        return OuterGradient(*({name: mean_of(value) for name, value in part.items()} for part in self))


def task_means(buffers: Variables) -> Variables:
    """Averages the tasks' copies of each buffer, (T, *shape) -> (*shape); integer ones are equal in all tasks."""
    return {n: v.mean(0) if v.is_floating_point() else v[0] for n, v in buffers.items()}
