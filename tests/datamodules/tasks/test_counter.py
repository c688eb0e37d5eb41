"""The counter-based random numbers: against Python's unbounded integers, and against chance."""

import math

import pytest
import torch
from torch import Tensor

from datamodules.tasks.counter import random_bits, random_integers, random_order
from tests.datamodules.chi_square import as_cell, is_uniform

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
SEEDS = [0, 1, -1, 42, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 2**64 + 7, 10**30, -(10**30)]


def mix(z: int) -> int:
    """SplitMix64's finaliser in unbounded integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def reference_bits(seed: int, stream: int, index: int, n_draws: int) -> list[int]:
    """One index's numbers: SplitMix64's upper halves, started from the mixed seed, stream and index."""
    state = mix(seed & MASK)
    state = mix((state + (stream + 1) * GOLDEN) & MASK)
    state = mix((state + index) & MASK)
    return [mix((state + draw * GOLDEN) & MASK) >> 32 for draw in range(1, n_draws + 1)]


def correlation(a: Tensor, b: Tensor) -> float:
    """Correlation times the root of the number of pairs: about standard normal for independent numbers."""
    pairs = torch.stack([a.flatten(), b.flatten()]).double()
    return float(torch.corrcoef(pairs)[0, 1]) * math.sqrt(pairs.shape[1])


def test_the_reference_is_splitmix64() -> None:
    # The first numbers of the published generator for two seeds.
    published = {0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4], 1234567: [6457827717110365317, 3203168211198807973]}
    for seed, numbers in published.items():
        assert [mix((seed + draw * GOLDEN) & MASK) for draw in (1, 2)] == numbers


@pytest.mark.parametrize("seed", SEEDS)
def test_bits_equal_the_reference(seed: int) -> None:
    index = [0, 1, 2, 417, 2**31, 2**40 + 3, 2**62]
    for stream in (0, 1, 2, 1000):
        expected = [reference_bits(seed, stream, i, 5) for i in index]
        assert random_bits(seed, stream, torch.tensor(index), 5).tolist() == expected


def test_bits_never_change() -> None:
    # With another number here, every published result's tasks would be other tasks.
    written_down = [[1451924235, 1155905713], [30807287, 833413314]]
    assert random_bits(0, 0, torch.tensor([0, 1]), 2).tolist() == written_down
    assert [reference_bits(0, 0, i, 2) for i in (0, 1)] == written_down


def test_bits_do_not_depend_on_the_other_indices() -> None:
    together = random_bits(3, 1, torch.arange(100), 7)  # (100, 7)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(random_bits(3, 1, order, 7), together[order])
    alone = [random_bits(3, 1, torch.tensor([i]), 7) for i in range(100)]
    assert torch.equal(torch.cat(alone), together)
    assert torch.equal(random_bits(3, 1, torch.tensor([5, 5]), 7), together[[5, 5]])
    assert random_bits(3, 1, torch.arange(0), 7).shape == (0, 7)


def test_bits_do_not_depend_on_the_number_of_draws() -> None:
    many = random_bits(3, 1, torch.arange(20), 50)
    assert many.dtype == torch.int64
    for n_draws in (1, 2, 49):
        assert torch.equal(random_bits(3, 1, torch.arange(20), n_draws), many[:, :n_draws])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_bits_do_not_depend_on_the_device() -> None:
    index = torch.arange(1000)
    for seed in SEEDS:
        on_device = random_bits(seed, 1, index.cuda(), 9)
        assert on_device.is_cuda
        assert torch.equal(on_device.cpu(), random_bits(seed, 1, index, 9))
        assert torch.equal(random_order(on_device).cpu(), random_order(on_device.cpu()))


def test_bits_do_not_touch_the_global_generators() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = random_bits(0, 0, torch.arange(5), 5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(random_bits(0, 0, torch.arange(5), 5), first)


@pytest.mark.parametrize("seed", [0, 1, -5])
def test_bits_are_uniform(seed: int) -> None:
    bits = random_bits(seed, 0, torch.arange(4000), 16)  # (4000, 16)
    assert int(bits.min()) >= 0
    assert int(bits.max()) < 1 << 32
    for shift in (0, 12, 24):
        assert is_uniform((bits >> shift) & 255, 256)
    for draw in range(bits.shape[1]):
        assert is_uniform(bits[:, draw] >> 26, 64)
    each_bit = (bits.flatten().unsqueeze(-1) >> torch.arange(32)) & 1  # (64000, 32)
    excess = (each_bit.double().mean(0) - 0.5) * 2 * math.sqrt(bits.numel())  # (32,), standard normal
    assert float(excess.abs().max()) < 4


def test_neighbours_are_independent() -> None:
    index = torch.arange(20000)
    bits = random_bits(7, 0, index, 4)  # (20000, 4)
    neighbours = {
        "the next index": random_bits(7, 0, index + 1, 4),
        "the next stream": random_bits(7, 1, index, 4),
        "the next seed": random_bits(8, 0, index, 4),
        "the next draw": random_bits(7, 0, index, 5)[:, 1:],
        "the negative seed": random_bits(-7, 0, index, 4),
        "seed and stream exchanged": random_bits(0, 7, index, 4),
    }
    for name, other in neighbours.items():
        assert int((bits == other).sum()) <= 1, name  # by chance one in 2**32
        assert abs(correlation(bits, other)) < 4, name
        pairs = torch.stack([bits.flatten(), other.flatten()], dim=-1) >> 28  # (80000, 2), each in [0, 16)
        assert is_uniform(as_cell(pairs, 16), 256), name


@pytest.mark.parametrize("bit", [0, 1, 7, 20, 31, 32, 45, 61])
@pytest.mark.parametrize("changed", ["seed", "index"])
def test_one_input_bit_changes_half_of_the_output_bits(changed: str, bit: int) -> None:
    index = torch.arange(4000)
    bits = random_bits(0, 0, index, 2)
    other = random_bits(1 << bit, 0, index, 2) if changed == "seed" else random_bits(0, 0, index ^ (1 << bit), 2)
    flips = ((bits ^ other).flatten().unsqueeze(-1) >> torch.arange(32)) & 1  # (8000, 32)
    excess = (flips.double().mean(0) - 0.5) * 2 * math.sqrt(len(flips))
    # An index and its partner are one pair counted twice, which doubles the variance.
    assert float(excess.abs().max()) < 4 * math.sqrt(2)


@pytest.mark.parametrize("below", [1, 2, 5, 7, 1000])
def test_integers_are_uniform(below: int) -> None:
    bits = random_bits(0, 0, torch.arange(4000), 16)
    drawn = random_integers(bits, below)
    assert int(drawn.min()) == 0
    assert int(drawn.max()) == below - 1
    assert below == 1 or is_uniform(drawn, below)
    assert torch.equal(drawn, random_integers(bits, torch.tensor(below)))


def test_integers_stay_in_range_at_the_edges() -> None:
    edges = torch.tensor([0, (1 << 32) - 1])
    for below in (1, 2, 3, 2**31 - 1):
        assert random_integers(edges, below).tolist() == [0, below - 1]
    assert random_integers(torch.full((3,), (1 << 32) - 1), torch.tensor([1, 4, 9])).tolist() == [0, 3, 8]


def test_orders_are_uniform_permutations() -> None:
    order = random_order(random_bits(0, 0, torch.arange(6000), 4))  # (6000, 4)
    assert torch.equal(order.sort(-1).values, torch.arange(4).expand(6000, 4))
    cells = as_cell(order, 4)
    possible = cells.unique()
    assert len(possible) == math.factorial(4)
    assert is_uniform(torch.searchsorted(possible, cells), len(possible))


def test_orders_break_ties_by_position() -> None:
    largest = (1 << 32) - 1
    assert random_order(torch.tensor([3, 3, 1, 3])).tolist() == [2, 0, 1, 3]
    assert random_order(torch.tensor([[largest, 0], [0, largest]])).tolist() == [[1, 0], [0, 1]]
