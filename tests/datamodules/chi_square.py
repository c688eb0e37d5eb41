"""Whether counts look like draws from equally likely cells."""

import math

import torch
from torch import Tensor


def surprise(cells: Tensor, n_cells: int) -> float:
    """How far independent draws are from uniform: Pearson's statistic as a standard normal number.

    Args:
        cells: (n,) int64 in [0, n_cells), each draw's cell.
        n_cells: How many cells there are, all equally likely.

    Returns:
        Large if some cells are favoured, very negative if the counts are more even than chance makes them.

    Reference: Wilson and Hilferty, "The Distribution of Chi-Square", PNAS 1931: its cube root is about normal.
    """
    counts = torch.bincount(cells.flatten(), minlength=n_cells).double()  # (n_cells,)
    assert len(counts) == n_cells, f"a cell beyond the {n_cells}: {len(counts) - 1}"
    expected = counts.sum() / n_cells
    assert expected >= 20, f"{float(expected):.1f} draws expected in a cell are too few to judge"
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = n_cells - 1
    spread = 2 / (9 * freedom)
    return ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)


def is_uniform(cells: Tensor, n_cells: int) -> bool:
    """Whether the draws pass: |surprise| < 4. The draws of a test are fixed, so it never flakes."""
    return abs(surprise(cells, n_cells)) < 4


def as_cell(columns: Tensor, below: int) -> Tensor:
    """Numbers each row of (n, k) integers in [0, below) by one integer in [0, below ** k): (n,)."""
    weights = below ** torch.arange(columns.shape[-1])
    return (columns * weights).sum(-1)
