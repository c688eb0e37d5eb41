"""A score's mean over tasks with its confidence interval."""

import torch
from torch import Tensor
from torchmetrics import Metric


class TaskMean(Metric):
    """Mean over tasks and the half-width of its 95% interval, 1.96 * s / sqrt(n), gathered over ranks.

    The states are sums, so ranks may have seen different numbers of tasks.

    Attributes:
        counted: The tasks of all ranks that the newest `compute` has taken the mean of.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.counted = 0
        for name in ("total", "total_square", "n_tasks"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    total: Tensor
    total_square: Tensor
    n_tasks: Tensor

    def update(self, scores: Tensor) -> None:
        """Adds the tasks' scores, (T,)."""
        scores = scores.detach().to(torch.float64)
        self.total += scores.sum()
        self.total_square += scores.square().sum()
        self.n_tasks += len(scores)

    def compute(self) -> tuple[Tensor, Tensor]:
        """The mean and the half-width of its 95% interval, both (); one task has no interval, and 0 stands for it."""
        self.counted = int(self.n_tasks)  # here, where the states are those of all ranks
        mean = self.total / self.n_tasks
        variance = (self.total_square - self.n_tasks * mean.square()).clamp(min=0) / (self.n_tasks - 1).clamp(min=1)
        return mean, 1.96 * (variance / self.n_tasks).sqrt()
