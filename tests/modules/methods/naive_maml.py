"""MAML's equations for one task at a time, with nothing of the library's: what its kin are held against."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

Weights = dict[str, Tensor]
Rate = Callable[[int, str], Tensor | float]


def adapt(network: nn.Module, weights: Weights, moving: list[str], x: Tensor, y: Tensor, rate: Rate, n: int) -> Weights:
    """Takes n gradient steps of some weights on a task's examples, one weight at a time."""
    for step in range(n):
        loss = F.cross_entropy(functional_call(network, weights, (x,)), y)
        gradients = torch.autograd.grad(loss, [weights[name] for name in moving], create_graph=True)
        after = {
            name: weights[name] - rate(step, name) * gradient for name, gradient in zip(moving, gradients, strict=True)
        }
        weights = {**weights, **after}
    return weights


def query_loss(network: nn.Module, weights: Weights, x: Tensor, y: Tensor) -> Tensor:
    """A task's loss."""
    return F.cross_entropy(functional_call(network, weights, (x,)), y)


def assert_gradients(ours: Weights, expected: Weights, tolerance: float = 1e-8) -> None:
    """Checks every gradient's relative difference."""
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert value.norm() > 0, name
        assert (ours[name] - value).norm() / value.norm() < tolerance, name
