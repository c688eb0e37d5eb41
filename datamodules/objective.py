"""What data ask of a model: a loss to train on, a score to report, and the answer that a user gets."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Objective(NamedTuple):
    """What the data asks of a model: the loss to train on and the score to report.

    Loss and score take outputs (..., n_outputs) and targets (...), and return one float for each example, (...).
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]
    score_name: str
    higher_is_better: bool  # of the score
    is_fraction: bool  # whether the score is a share of 1, which a reader wants in percent
    answer: Callable[[Tensor], Tensor]  # what a user gets: outputs (..., n_outputs) to (..., n) in float32

    def direction_of(self, metric: str) -> Literal["max", "min"]:
        """Returns what a run wants of a metric: less of a loss, otherwise as of the score."""
        return "min" if metric.endswith("loss") else self.direction

    @property
    def direction(self) -> Literal["max", "min"]:
        """Returns what a run wants of the score."""
        return "max" if self.higher_is_better else "min"


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each example, in nats.

    Args:
        logits: (..., n_way).
        targets: (...), int64 in [0, n_way).

    Returns:
        (...), in float32 at least, under mixed precision too.
    """
    flat = functional.cross_entropy(at_least_float32(logits).flatten(0, -2), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def correct(logits: Tensor, targets: Tensor) -> Tensor:
    """1.0 where the largest logit is the target's, else 0.0: (..., n_way), (...) -> (...), float32."""
    return (logits.argmax(-1) == targets).to(torch.float32)


def probabilities(logits: Tensor) -> Tensor:
    """The probability of each class: (..., n_way) -> (..., n_way), float32 or float64; each row sums to 1."""
    return at_least_float32(logits).softmax(-1)


def squared_error(values: Tensor, targets: Tensor) -> Tensor:
    """The squared error of each example, in float32 under mixed precision too.

    Args:
        values: (..., 1).
        targets: (...), float.

    Returns:
        (...), in float32 at least.
    """
    return (at_least_float32(values).squeeze(-1) - targets).square()


def at_least_float32(values: Tensor) -> Tensor:
    """The values, of the same shape, not in less than float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


CLASSIFICATION = Objective(
    "classification",
    loss=cross_entropy,
    score=correct,
    score_name="accuracy",
    higher_is_better=True,
    is_fraction=True,
    answer=probabilities,
)
REGRESSION = Objective(
    "regression",
    loss=squared_error,
    score=squared_error,
    score_name="mse",
    higher_is_better=False,
    is_fraction=False,
    answer=at_least_float32,
)
OBJECTIVES = {objective.name: objective for objective in (CLASSIFICATION, REGRESSION)}
