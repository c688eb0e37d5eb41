"""Sums of outer gradients over chunks of tasks, batches and ranks."""

from typing import NamedTuple

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor

from modules.functional.networks import Variables


class OuterGradient(NamedTuple):
    """What an outer step is made of, each a mean over tasks or a weighted part of one."""

    gradients: Variables  # trainable parameter -> (*shape)
    buffers: Variables  # buffer -> (*shape): its updated value, e.g. running statistics
    metrics: Variables  # name -> ()

    def weighted(self, weight: float) -> "OuterGradient":
        """Every floating-point tensor times `weight`."""
        return OuterGradient(*({n: v * weight if v.is_floating_point() else v for n, v in part.items()} for part in self))

    def plus(self, other: "OuterGradient") -> "OuterGradient":
        """The sum; integer buffers, such as a count of batches, are the same on both sides and stay."""
        sums = []
        for mine, theirs in zip(self, other, strict=True):
            sums.append({n: v + theirs[n] if v.is_floating_point() else v for n, v in mine.items()})
        return OuterGradient(*sums)

    def mean_over_ranks(self, strategy: Strategy) -> "OuterGradient":
        """The mean over all processes, in one reduction."""
        if strategy.world_size == 1:
            return self
        tensors = [value for part in self for value in part.values() if value.is_floating_point()]
        flat = strategy.reduce(torch.cat([tensor.flatten() for tensor in tensors]), reduce_op="mean")
        assert isinstance(flat, Tensor)
        means = iter(flat.split([tensor.numel() for tensor in tensors]))
        reduced = []
        for part in self:
            reduced.append({n: next(means).view(v.shape).to(v.dtype) if v.is_floating_point() else v for n, v in part.items()})
        return OuterGradient(*reduced)


def task_means(buffers: Variables) -> Variables:
    """Averages the tasks' copies of each buffer, (T, *shape) -> (*shape); integer ones, equal in all tasks, are taken as they are."""
    return {n: v.mean(0) if v.is_floating_point() else v[0] for n, v in buffers.items()}
