"""Normal numbers from random bits."""

import torch
from torch import Tensor


def normal_numbers(bits: Tensor) -> Tensor:
    """Standard normal numbers from random bits, by the inverse of the distribution function.

    Args:
        bits: (...) int64 in [0, 2**32).

    Returns:
        (...) float32, between -6.2 and 6.2.
    """
    uniform = (bits.to(torch.float64) + 0.5) / (1 << 32)  # in (0, 1)
    return torch.special.ndtri(uniform).to(torch.float32)
