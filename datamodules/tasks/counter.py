"""Counter-based random numbers: a pure function of (seed, stream, index, draw number), with no generator state.

Every random choice in Quickstudy is such a draw. That alone gives exact resume, the same tasks for any batch size,
worker count, world size or device, and random access to task number i.

Reference:
    The mixing function is SplitMix64's finaliser (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
    Generators", OOPSLA 2014); used as a counter-based generator in the manner of Salmon et al., "Parallel Random
    Numbers: As Easy as 1, 2, 3", SC 2011.
"""

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


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
    key = _mix_integer((stream + 1) * _GOLDEN + _mix_integer(seed))
    index_key = _mix_(index + _signed(key))  # (T,)
    draw = torch.arange(1, n_draws + 1, device=index.device) * _signed(_GOLDEN)  # (n_draws,)
    return _shift(_mix_(index_key.unsqueeze(-1) + draw), 32)  # (T, n_draws)


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


def _mix_integer(x: int) -> int:
    """SplitMix64's finaliser of an integer's last 64 bits."""
    x &= _MASK
    x = (x ^ (x >> 30)) * _MIX_1 & _MASK
    x = (x ^ (x >> 27)) * _MIX_2 & _MASK
    return x ^ (x >> 31)


def _mix_(x: Tensor) -> Tensor:
    """The same of int64 numbers, in place; products wrap around."""
    x ^= _shift(x, 30)
    x *= _signed(_MIX_1)
    x ^= _shift(x, 27)
    x *= _signed(_MIX_2)
    x ^= _shift(x, 31)
    return x


def _shift(x: Tensor, places: int) -> Tensor:
    """Logical right shift: torch's own keeps the sign of an int64."""
    return (x >> places).bitwise_and_(_MASK >> places)


def _signed(x: int) -> int:
    """The int64 with the bits of x in [0, 2**64)."""
    return x - (1 << 64) if x >> 63 else x
