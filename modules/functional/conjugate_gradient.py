"""Linear systems of T tasks at once, solved by products with their matrices alone."""

from collections.abc import Callable

import torch
from torch import Tensor

TINY = 1e-20  # a squared residual below which a system counts as solved


def conjugate_gradient(product: Callable[[Tensor], Tensor], right: Tensor, steps: int) -> Tensor:
    """Solves A x = b for each task, beginning with x = 0.

    Args:
        product: A v for each task, (T, P) -> (T, P); A symmetric and, for the solution to be one, positive definite.
        right: b, (T, P).
        steps: Iterations at most; P of them solve the system but for round-off.

    Returns:
        x, (T, P). A task whose direction A does not curve upwards stays where it is.

    Reference:
        Hestenes and Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952.
    """
    x = torch.zeros_like(right)
    residual = direction = right
    squared = residual.square().sum(1, keepdim=True)  # (T, 1)
    for _ in range(steps):
        image = product(direction)  # (T, P)
        curvature = (direction * image).sum(1, keepdim=True)
        goes_on = (squared > TINY) & (curvature > 0)
        alpha = torch.where(goes_on, squared / torch.where(goes_on, curvature, 1), 0)  # (T, 1)
        x = x + alpha * direction
        residual = residual - alpha * image
        following = residual.square().sum(1, keepdim=True)
        beta = torch.where(goes_on, following / torch.where(goes_on, squared, 1), 0)
        direction, squared = residual + beta * direction, torch.where(goes_on, following, 0)
    return x
