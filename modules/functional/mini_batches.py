"""Mini-batches drawn within a task."""

import torch
from torch import Tensor


def mini_batch_indices(orders: Tensor, batch_size: int, steps: int) -> Tensor:
    """Cuts repeated shuffles of a task's examples into mini-batches.

    The examples are gone through in one shuffled order after another, so every example is used once before any is used
    twice; a mini-batch may span the end of one order and the start of the next, as in the authors' code.

    Args:
        orders: (T, R, S) int64: R permutations of a task's S examples, R * S >= steps * batch_size.
        batch_size: Examples in a mini-batch.
        steps: Number of mini-batches.

    Returns:
        (T, steps, batch_size) int64 indices into the S examples.

    Reference:
        Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018, section 6.3 (mini-batches without
        replacement), and `_mini_batches` in the authors' supervised-reptile.
    """
    return orders.flatten(1)[:, : steps * batch_size].unflatten(1, (steps, batch_size))


def take(examples: Tensor, index: Tensor) -> Tensor:
    """Picks each task's examples by index: (T, S, *shape), (T, B) -> (T, B, *shape)."""
    tasks = torch.arange(len(index), device=index.device).unsqueeze(1)  # (T, 1)
    return examples[tasks, index]
