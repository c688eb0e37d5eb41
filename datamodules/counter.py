"""Counter-based random numbers: a pure function of (seed, stream, index, draw number), with no generator state.

Every random choice in Quickstudy is such a draw. That alone gives exact resume, the same tasks for any batch size,
worker count, world size or device, and random access to task number i.

Reference: the mixing function is SplitMix64's finaliser (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
    Generators",
OOPSLA 2014); used as a counter-based generator in the manner of Salmon et al., "Parallel Random Numbers: As Easy as 1,
2, 3", SC 2011.
"""

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # 2**64 / golden ratio, as a signed 64-bit integer
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def random_bits(seed: int, stream: int, index: Tensor, n_draws: int) -> Tensor:
    """Draws `n_draws` numbers of 32 uniform bits for each index.

    Args:
        seed: Any integer; another seed gives unrelated numbers.
        stream: A number that keeps different uses of the same seed and index apart.
        index: (T,) int64, e.g. task numbers. The numbers of an index do not depend on the other indices.
        n_draws: How many numbers for each index. The first ones do not depend on how many are drawn.

    Returns:
        (T, n_draws) int64 in [0, 2**32), on the device of `index`; the same on every device.
    """
    key = _mix(index + _mix(torch.tensor(stream + 1, device=index.device) * _GOLDEN + _mix(_as_tensor(seed, index))))
    draw = torch.arange(1, n_draws + 1, device=index.device) * _GOLDEN
    return _shift(_mix(key.unsqueeze(-1) + draw), 32)  # (T, n_draws)


def random_integers(bits: Tensor, below: Tensor | int) -> Tensor:
    """Maps 32 random bits to integers in [0, below); the bias is below / 2**32 at most.

    Args:
        bits: (...,) int64 in [0, 2**32).
        below: Upper bound, exclusive, in [1, 2**31); broadcast against `bits`.

    Returns:
        (...,) int64 in [0, below).
    """
    return (bits * below) >> 32


def random_order(bits: Tensor) -> Tensor:
    """Turns each row of random bits into a uniformly random permutation.

    Args:
        bits: (..., n) int64 in [0, 2**32), n < 2**31.

    Returns:
        (..., n) int64: each row is a permutation of 0 ... n - 1.
    """
    # The position in the low bits makes every key distinct, so the order is the same whichever sorting algorithm a
    # device uses.
    keys = (bits << 31) | torch.arange(bits.shape[-1], device=bits.device)
    return keys.argsort(dim=-1)


def _as_tensor(seed: int, like: Tensor) -> Tensor:
    seed &= (1 << 64) - 1
    return torch.tensor(seed - (1 << 64) if seed >> 63 else seed, device=like.device)


def _shift(x: Tensor, places: int) -> Tensor:
    """Logical right shift: torch's own keeps the sign of an int64."""
    return (x >> places) & ((1 << (64 - places)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)
