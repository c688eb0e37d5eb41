"""Sinusoid: functions y = A sin(x - phase) to regress, each from a few of its points."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.episode import Episode, Task
from datamodules.episode_data import EpisodeDataModule
from datamodules.images.contents import combined_digest
from datamodules.objective import REGRESSION
from datamodules.settings import Evaluation
from datamodules.tasks.counter import random_bits, random_order
from datamodules.tasks.sampling import SPLITS
from datamodules.tasks.task_sizes import Count

AMPLITUDES = (0.1, 5.0)
INTERVAL = (-5.0, 5.0)  # of x
GRID = 50  # evenly spaced points that Reptile's x are drawn from


class Sinusoid(EpisodeDataModule):
    """Sine waves of random amplitude and phase: a task is one of them, and its examples are points of it.

    Nothing is kept: a task is computed from its number. Targets are not rescaled, so that errors compare with those of
    the papers.

    Args:
        n_way: Always 1: a task is one function, and the network has one output.
        k_shot: Support points of a training task; two numbers: drawn anew for every batch.
        n_query: Query points of a training task.
        meta_batch_size: Tasks of one training batch over all devices, whose number must divide it; for a learner that
            trains on labelled examples, groups of these.
        evaluation: Validation and test tasks.
        seed: Seed of the training tasks.
        protocol: "maml": y = A sin(x - phase), A in [0.1, 5], phase in [0, pi], x in [-5, 5], all uniform. "reptile":
            y = A sin(x + phase), phase in [0, 2 pi], and x drawn from 50 evenly spaced points of [-5, 5], no point
            twice in the support, nor in the query set.
        oracle: Whether inputs are (x, A, phase) in place of x, which tells a network which function is asked.

    Reference:
        Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017, section
        5.1. Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018, the case study of sine waves,
        and the authors' code for it.
    """

    objective = REGRESSION

    def __init__(
        self,
        n_way: Literal[1] = 1,
        k_shot: Count = 10,
        n_query: int = 10,
        meta_batch_size: int = 25,
        evaluation: Evaluation = Evaluation(),
        seed: int = 0,
        protocol: Literal["maml", "reptile"] = "maml",
        oracle: bool = False,
    ) -> None:
        super().__init__(n_way, k_shot, n_query, meta_batch_size, evaluation, seed)
        if protocol not in ("maml", "reptile"):
            raise ValueError(f"protocol must be one of maml, reptile, got {protocol!r}.")
        for split, shape in self.shapes.items():
            if shape.n_way != 1:
                raise ValueError(f"n_way must be 1 for Sinusoid, whose tasks are one function each, got {shape.n_way}.")
            if protocol == "reptile" and max(shape.k_shot, shape.n_query) > GRID:
                raise ValueError(
                    f"a {split} task of k_shot = {shape.k_shot} and n_query = {shape.n_query} has more than the {GRID} "
                    "points that protocol reptile draws from: lower them, or set data.protocol to maml."
                )
        self.save_hyperparameters()
        self.variant, self.oracle = protocol, oracle

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(1,): x; (3,): x, amplitude and phase."""
        return (3,) if self.oracle else (1,)

    def identity(self) -> str:
        """Says which functions these are: those of which protocol, seen by themselves or with their parameters."""
        return combined_digest(self.variant, str(self.oracle))

    def draw(self, split: str, task_id: Tensor) -> Episode:
        """The tasks of these numbers (T,) of "train", "val" or "test", on the device of `task_id`."""
        shape = self.shape_of(split, task_id)
        support, query = self._points(split, task_id, shape.k_shot, shape.n_query)  # (T, k_shot), (T, n_query)
        support_x, support_y = self._examples(split, task_id, support)
        query_x, query_y = self._examples(split, task_id, query)
        classes = torch.zeros_like(task_id).unsqueeze(1)  # (T, 1)
        return Episode(Task.of(support_x, support_y, classes), query_x, query_y, task_id)

    def curve(self, split: str, task_id: Tensor, n_points: int) -> tuple[Tensor, Tensor]:
        """The true functions at evenly spaced points of [-5, 5].

        Args:
            split: "train", "val" or "test".
            task_id: (T,) int64.
            n_points: P.

        Returns:
            What a network is given, (T, P, *input_shape), x first; and y, (T, P).
        """
        x = torch.linspace(*INTERVAL, n_points, dtype=torch.float64, device=task_id.device)
        return self._examples(split, task_id, x.expand(len(task_id), -1))

    def protocol(self) -> dict[str, Any]:
        """The task that is evaluated, as a result must state it."""
        return {**super().protocol(), "protocol": self.variant, "oracle": self.oracle}

    def functions(self, split: str, task_id: Tensor) -> tuple[Tensor, Tensor]:
        """The amplitudes and the phases of tasks (T,), both (T,) float64."""
        bits = random_bits(self.seed_of(split), SPLITS.index(split), task_id, 2)  # (T, 2)
        amplitude, phase = uniform(bits, 0.0, 1.0).unbind(1)  # (T,), (T,)
        low, high = AMPLITUDES
        return low + (high - low) * amplitude, (2 if self.variant == "reptile" else 1) * math.pi * phase

    def _points(self, split: str, task_id: Tensor, k_shot: int, n_query: int) -> tuple[Tensor, Tensor]:
        """The x of the support, (T, k_shot), and of the query set, (T, n_query); float64."""
        taken = 2 * GRID if self.variant == "reptile" else k_shot + n_query
        bits = random_bits(self.seed_of(split), SPLITS.index(split), task_id, 2 + taken)[:, 2:]  # (T, taken)
        if self.variant == "maml":
            support, query = uniform(bits, *INTERVAL).split([k_shot, n_query], dim=1)
            return support, query
        grid = torch.linspace(*INTERVAL, GRID, dtype=torch.float64, device=bits.device)
        support_order, query_order = random_order(bits.unflatten(1, (2, GRID))).unbind(1)  # (T, 50), (T, 50)
        return grid[support_order[:, :k_shot]], grid[query_order[:, :n_query]]

    def _examples(self, split: str, task_id: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (T, n, *input_shape) and targets (T, n), both float32, for points x (T, n).

        In float64 until the end: in float32 a sine may differ in its last digit between devices and batch sizes.
        """
        amplitude, phase = (value.unsqueeze(1) for value in self.functions(split, task_id))  # (T, 1) each
        seen = x.float()  # the network's x, whose sine it is to learn
        y = amplitude * torch.sin(seen.double() + (phase if self.variant == "reptile" else -phase))
        inputs = [seen, amplitude.expand_as(x), phase.expand_as(x)] if self.oracle else [seen]
        return torch.stack([value.float() for value in inputs], dim=-1), y.float()


def uniform(bits: Tensor, low: float, high: float) -> Tensor:
    """Maps 32 random bits, int64, to numbers in [low, high), float64, of the same shape."""
    return low + (high - low) * (bits.to(torch.float64) * 2.0**-32)
