"""The inner loop against torch.optim, task by task."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from modules.functional.inner_loop import adam, inner_loop, sgd, task_gradients
from modules.functional.tasks.networks import Variables, for_each_task

T, STEPS = 3, 6


@pytest.fixture
def curvature() -> Tensor:
    """Each task's loss is a different function of its weights, (T, 4)."""
    return torch.rand(T, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1


def loss_of(step: int, weights: Tensor, curvature: Tensor) -> Tensor:
    """(..., 4), (..., 4) -> (...); another one at each step, as mini-batches make it."""
    return ((1 + step) * curvature * weights.pow(4) - weights).sum(-1)


@pytest.mark.parametrize("rule", ["sgd", "adam", "adam with momentum"])
def test_every_step_is_the_optimisers(curvature: Tensor, rule: str) -> None:
    start = {"w": torch.linspace(-1, 1, 4, dtype=torch.float64)}
    update = {"sgd": sgd(0.05), "adam": adam(0.05), "adam with momentum": adam(0.05, beta1=0.9)}[rule]
    states = list(inner_loop(lambda i, p: loss_of(i, p["w"], curvature), for_each_task(start, T), update, STEPS))
    assert len(states) == STEPS + 1
    for t in range(T):
        weight = nn.Parameter(start["w"].clone())
        betas = (0.9 if "momentum" in rule else 0.0, 0.999)
        optimizer = SGD([weight], 0.05) if rule == "sgd" else Adam([weight], 0.05, betas=betas)
        for step in range(STEPS):
            torch.testing.assert_close(states[step]["w"][t], weight.detach(), rtol=1e-9, atol=1e-12)
            optimizer.zero_grad()
            loss_of(step, weight, curvature[t]).backward()
            optimizer.step()
        torch.testing.assert_close(states[-1]["w"][t], weight.detach(), rtol=1e-9, atol=1e-12)


def outer_gradient(curvature: Tensor, first_order: bool) -> Tensor:
    shared = torch.linspace(-1, 1, 4, dtype=torch.float64).requires_grad_()
    *_, state = inner_loop(
        lambda i, p: loss_of(i, p["w"], curvature), for_each_task({"w": shared}, T), sgd(0.05), 2, first_order, True
    )
    return torch.autograd.grad(state["w"].sum(), shared)[0]


def test_the_result_is_connected_to_the_start_only_when_asked(curvature: Tensor) -> None:
    assert torch.equal(outer_gradient(curvature, first_order=True), torch.full((4,), float(T), dtype=torch.float64))
    assert not torch.allclose(outer_gradient(curvature, first_order=False), torch.tensor(float(T)).double())
    start = {"w": torch.ones(T, 4, dtype=torch.float64, requires_grad=True)}
    with torch.no_grad():  # as in evaluation
        states = list(inner_loop(lambda i, p: loss_of(i, p["w"], curvature), start, sgd(0.05), 2))
    assert not any(state["w"].requires_grad for state in states[1:])


def test_every_task_gets_the_gradient_of_its_own_loss(curvature: Tensor) -> None:
    params: Variables = {"w": torch.rand(T, 4, dtype=torch.float64, requires_grad=True)}
    gradients = task_gradients(loss_of(0, params["w"], curvature), params, differentiable=False)
    torch.testing.assert_close(gradients["w"], (4 * curvature * params["w"].pow(3) - 1).detach())
