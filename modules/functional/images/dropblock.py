"""DropBlock: dropout of squares, for feature maps whose neighbours say the same."""

from torch import Tensor
from torch.nn import functional


def seed_rate(drop_rate: float, size: int, block_size: int) -> float:
    """The chance that a square begins at a position, such that about `drop_rate` of a map is dropped.

    Args:
        drop_rate: Share of the positions to drop, in [0, 1).
        size: H = W of the maps.
        block_size: H = W of a dropped square; at most `size`.

    Returns:
        Gamma, in [0, 1]: above the share of one square at high rates on small maps, hence the bound.

    Reference:
        Ghiasi, Lin and Le, "DropBlock: A regularization method for convolutional networks", NeurIPS 2018, equation (1).
    """
    return min(1.0, drop_rate * size**2 / (block_size**2 * (size - block_size + 1) ** 2))


def drop_block(maps: Tensor, draws: Tensor, drop_rate: float, block_size: int) -> Tensor:
    """Sets squares of the maps to zero and scales up what is left.

    Args:
        maps: (B, C, S, S).
        draws: (B, C, S - block_size + 1, S - block_size + 1), uniform in [0, 1): a square begins where one is below
            gamma.
        drop_rate: Share of the positions to drop, in [0, 1).
        block_size: H = W of a dropped square.

    Returns:
        (B, C, S, S), each image's divided by the share of its positions that is left.

    Reference:
        Ghiasi, Lin and Le 2018, Algorithm 1, where a square begins at its first corner instead of its centre, as in the
        code of Lee et al., "Meta-Learning with Differentiable Convex Optimization", CVPR 2019. Deviation: theirs
        divides by the share of the whole batch, so that an image would depend on those that it is computed with.
    """
    begins = (draws < seed_rate(drop_rate, maps.shape[-1], block_size)).float()  # exact counts
    reach = block_size - 1
    begins = functional.pad(begins, (reach, reach, reach, reach))  # (B, C, S + reach, S + reach)
    kept = 1 - functional.max_pool2d(begins, block_size, stride=1)  # (B, C, S, S)
    left = kept.sum((1, 2, 3), keepdim=True).clamp(min=1)  # (B, 1, 1, 1)
    return maps * (kept * (kept[0].numel() / left)).to(maps.dtype)
