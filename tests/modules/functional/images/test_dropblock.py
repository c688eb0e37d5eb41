"""DropBlock against the loops of MetaOptNet's code."""

import pytest
import torch
from torch import Tensor

from modules.functional.images.dropblock import drop_block, seed_rate


def by_loops(maps: Tensor, draws: Tensor, drop_rate: float, block_size: int) -> Tensor:
    """MetaOptNet's DropBlock and its gamma, position by position, of images by themselves."""
    size = maps.shape[-1]
    keep_rate = 1 - drop_rate
    gamma = (1 - keep_rate) / block_size**2 * size**2 / (size - block_size + 1) ** 2
    kept = torch.ones_like(maps)
    for b, c, i, j in (draws < gamma).nonzero().tolist():
        for down in range(block_size):
            for right in range(block_size):
                kept[b, c, i + down, j + right] = 0
    return torch.stack([k * m * (k.numel() / k.sum()) for k, m in zip(kept, maps, strict=True)])


@pytest.mark.parametrize(("size", "block_size"), [(10, 5), (5, 5), (7, 3), (6, 4), (4, 1)])
def test_it_is_metaoptnets(size: int, block_size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    maps = torch.randn(3, 4, size, size, dtype=torch.float64, generator=generator)
    corners = size - block_size + 1
    draws = torch.rand(3, 4, corners, corners, generator=generator)
    dropped = drop_block(maps, draws, 0.3, block_size)
    assert 0 < (dropped == 0).sum() < dropped.numel()
    torch.testing.assert_close(dropped, by_loops(maps, draws, 0.3, block_size), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_mean_stays_whatever_is_dropped(dtype: torch.dtype) -> None:
    draws = torch.rand(64, 32, 6, 6, generator=torch.Generator().manual_seed(0))
    dropped = drop_block(torch.ones(64, 32, 10, 10, dtype=dtype), draws, 0.1, 5)  # 204,800 positions: not in float16
    assert dropped.dtype == dtype
    assert float(dropped.float().mean()) == pytest.approx(1, abs=4e-3)
    some = drop_block(torch.ones(2, 32, 10, 10, dtype=dtype), draws[:2], 0.1, 5)
    assert torch.equal(some, dropped[:2])  # whatever it is computed with
    # Squares overlap, so that a little less than drop_rate is dropped.
    assert 0.08 < float((dropped == 0).float().mean()) < 0.1


def test_everything_dropped_is_zero_and_not_nan() -> None:
    assert (drop_block(torch.ones(1, 2, 5, 5), torch.zeros(1, 2, 1, 1), 0.1, 5) == 0).all()


@pytest.mark.parametrize("size", [1, 3, 5, 10])
def test_a_rate_is_a_probability(size: int) -> None:
    assert 0 < seed_rate(0.99, size, min(5, size)) <= 1
