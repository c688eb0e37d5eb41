"""LEO's pieces: from the codes of a task's examples to the distribution of its classifier."""

import torch
from torch import Tensor
from torch.nn import functional

from modules.functional.full_precision import in_full_precision

SMALLEST_DEVIATION = 1e-10
LARGEST_EXPONENT = 5.0  # a deviation of 148, beyond which a classifier is nothing but noise


def all_pairs(codes: Tensor) -> Tensor:
    """Each code beside each of its task's, itself included: (T, S, L) -> (T, S, S, 2 L)."""
    n = codes.shape[1]
    left = codes.unsqueeze(2).expand(-1, -1, n, -1)  # (T, S, S, L)
    return torch.cat([left, left.transpose(1, 2)], dim=-1)


@in_full_precision
def split_gaussian(parameters: Tensor, offset: float) -> tuple[Tensor, Tensor]:
    """A network's outputs as a normal distribution's mean and standard deviation.

    Args:
        parameters: (..., 2 L).
        offset: The deviation where the network puts out 0.

    Returns:
        Mean and deviation, (..., L) each, in float32 at least; the deviation is exp(output) - (1 - offset),
        above 0 and below 149.
    """
    mean, raw = parameters.chunk(2, dim=-1)
    return mean, (raw.clamp(max=LARGEST_EXPONENT).exp() - (1 - offset)).clamp(min=SMALLEST_DEVIATION)


@in_full_precision
def divergence_at(sample: Tensor, deviation: Tensor, draw: Tensor) -> Tensor:
    """log N(sample; mean, deviation) - log N(sample; 0, 1), whose expectation is the KL divergence.

    Args:
        sample: mean + deviation * draw, (...).
        deviation: (...).
        draw: (...); taken from the sample again it would be round-off where the deviation is small.

    Returns:
        (...), in float32 at least.
    """
    return 0.5 * (sample.square() - draw.square()) - deviation.log()


@in_full_precision
def orthogonality_penalty(rows: Tensor) -> Tensor:
    """The mean squared difference between the rows' correlations and the identity: (L, D) -> (), float32 at least."""
    unit = functional.normalize(rows, dim=1)  # (L, D)
    identity = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    return (unit @ unit.T - identity).square().mean()
