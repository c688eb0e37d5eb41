"""What a data module emits: episodes, and what is asked of a model that sees them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Support(NamedTuple):
    """The labelled examples that T tasks are learned from."""

    x: Tensor  # (T, S, *input_shape)
    y: Tensor  # (T, S), int64 class labels or float targets


class Episode(NamedTuple):
    """T few-shot tasks. Labels are relabelled to [0, n_way) inside each task.

    A NamedTuple collates, pins, moves to a device and gives Lightning its batch size (T) with no code of ours.
    """

    support_x: Tensor  # (T, n_way * k_shot, *input_shape)
    support_y: Tensor  # (T, n_way * k_shot), int64
    query_x: Tensor  # (T, n_way * n_query, *input_shape)
    query_y: Tensor  # (T, n_way * n_query), int64
    task_id: Tensor  # (T,), int64: the number that draws this task again
    class_id: Tensor  # (T, n_way), int64: which of the bank's classes

    @property
    def support(self) -> Support:
        """The support set, what `adapt` learns from."""
        return Support(self.support_x, self.support_y)

    def tasks(self, start: int, stop: int) -> "Episode":
        """The tasks from position `start` up to `stop`, as an Episode."""
        return Episode(*(field[start:stop] for field in self))


class Objective(NamedTuple):
    """What the data asks of a model: the loss to train on and the score to report.

    Both take outputs (..., n_outputs) and targets (...), and return one float for each example, (...).
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]
    score_name: str


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each example, in nats.

    Args:
        logits: (..., n_way).
        targets: (...), int64 in [0, n_way).

    Returns:
        (...), float.
    """
    flat = functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def correct(logits: Tensor, targets: Tensor) -> Tensor:
    """1.0 where the largest logit is the target's, else 0.0: (..., n_way), (...) -> (...), float32."""
    return (logits.argmax(-1) == targets).to(torch.float32)


CLASSIFICATION = Objective("classification", loss=cross_entropy, score=correct, score_name="accuracy")
