"""How sure a classifier's answers may be taken to be, found out on answers whose truth is known."""

import math

import torch
from torch import Tensor
from torch.nn import functional

LOG_RANGE, STEPS = 6.0, 60  # temperatures from exp(-6) to exp(6), searched to a precision of 1e-11 in their logarithm
GOLDEN = (math.sqrt(5) - 1) / 2


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that the logits are divided by so that their softmax has the smallest cross-entropy.

    It changes no answer, only how sure the answers are.

    Args:
        logits: (N, n_way).
        labels: (N,) int64.

    Returns:
        T > 0. The cross-entropy has one minimum in 1 / T, which golden-section search finds in log T.

    Reference:
        Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
    """
    values = logits.detach().to(torch.float64)

    def loss(log_temperature: float) -> float:
        return float(functional.cross_entropy(values / math.exp(log_temperature), labels))

    low, high = -LOG_RANGE, LOG_RANGE
    for _ in range(STEPS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def sure_above(confidence: Tensor, correct: Tensor, accuracy: float, fewest: int = 30) -> float | None:
    """The lowest confidence such that of the answers from there on at least a share `accuracy` is right.

    Args:
        confidence: (N,) the probability of each answer.
        correct: (N,) bool, whether it is right.
        accuracy: In (0, 1].
        fewest: Answers that such a share must be seen on.

    Returns:
        A threshold: answers with a probability of it or more are sure; None where no threshold does.

    Reference:
        Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017: the selection by the
        softmax response, here with the observed share in place of its upper bound.
    """
    order = confidence.argsort(descending=True)
    ranked = confidence[order]
    share = correct[order].to(torch.float64).cumsum(0) / torch.arange(1, len(order) + 1, device=order.device)
    last_of_its_confidence = torch.ones_like(ranked, dtype=torch.bool)
    last_of_its_confidence[:-1] = ranked[:-1] != ranked[1:]
    fits = (share >= accuracy) & last_of_its_confidence
    fits[: fewest - 1] = False
    found = fits.nonzero().flatten()
    return float(ranked[found[-1]]) if len(found) else None
