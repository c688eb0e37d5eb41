"""Mini-batches of a task's examples."""

import torch
from torch import Tensor


def take(examples: Tensor, index: Tensor) -> Tensor:
    """Picks each task's examples by index: (T, S, *shape), (T, B) -> (T, B, *shape)."""
    tasks = torch.arange(len(index), device=index.device).unsqueeze(1)  # (T, 1)
    return examples[tasks, index]
