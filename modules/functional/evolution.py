"""Gradients estimated from function values alone."""

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


def evolution_gradient(above: Tensor, below: Tensor, directions: Tensor, sigma: float) -> Tensor:
    """The antithetic estimate of the gradient of E f(x + sigma g), g standard normal.

    Args:
        above: f(x + sigma g) for each of M points and each direction, (T, M, N).
        below: f(x - sigma g), (T, M, N).
        directions: g, the same for all points of a task, (T, N, P).
        sigma: Standard deviation of the perturbations.

    Returns:
        (T, M, P): the mean over N of (above - below) / (2 sigma) g.

    Reference:
        Song et al., "ES-MAML: Simple Hessian-Free Meta Learning", ICLR 2020, Algorithm 2 (ESGrad, antithetic); Salimans
        et al., "Evolution Strategies as a Scalable Alternative to Reinforcement Learning", 2017.
    """
    slopes = (above - below) / (2 * sigma * above.shape[-1])  # (T, M, N)
    with torch.autocast(directions.device.type, enabled=False):
        return slopes.to(directions.dtype) @ directions
