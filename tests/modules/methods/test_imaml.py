"""iMAML against dense linear algebra, and against the derivative of where the inner loop ends."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from datamodules.episode import Episode
from modules import IMAML, OuterLoop
from modules.methods.imaml import conjugate_gradient
from tests.learnable_images import TwoBlocks, arrays, make_episode


@pytest.fixture
def episode() -> Episode:
    return make_episode(2, k_shot=2, n_query=1)


def make(strategy: str = "loop", running_stats: bool = False, **changes: float) -> IMAML:
    torch.manual_seed(0)
    outer = OuterLoop(task_strategy=strategy)  # type: ignore[arg-type]
    backbone = TwoBlocks(running_stats, activation=nn.Tanh, filters=2)
    return IMAML(3, backbone, outer=outer, **changes).double()  # type: ignore[arg-type]


def loss_at(network: nn.Module, vector: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The loss with all weights in one vector (P,)."""
    parameters = dict(network.named_parameters())
    parts = vector.split([value.numel() for value in parameters.values()])
    weights = {name: part.view_as(value) for (name, value), part in zip(parameters.items(), parts, strict=True)}
    return F.cross_entropy(functional_call(network, weights, (x,)), y)


def inner_optimum(network: nn.Module, start: Tensor, x: Tensor, y: Tensor, lr: float, spring: float, n: int) -> Tensor:
    """Gradient descent on the support loss and the spring."""
    phi = start
    for _ in range(n):
        phi = phi.detach().requires_grad_()
        total = loss_at(network, phi, x, y) + spring / 2 * (phi - start.detach()).square().sum()
        phi = phi - lr * torch.autograd.grad(total, phi)[0]
    return phi.detach()


@pytest.mark.parametrize(
    ("strategy", "spring", "damping", "lam_damping"),
    [
        ("batched", 30.0, 0.0, 0.0),
        ("vmap", 30.0, 1.0, 0.0),
        ("loop", 30.0, 0.0, 0.0),
        ("batched", 1.0, 1.0, 10.0),
        ("loop", 1.0, 1.0, 10.0),
    ],
)
def test_the_outer_gradient_solves_the_dense_system(
    episode: Episode, strategy: str, spring: float, damping: float, lam_damping: float
) -> None:
    """The last have the authors' dampings: without that of lambda their matrix is indefinite."""
    settings: dict[str, Any] = {"regularisation": spring, "cg_damping": damping, "lam_damping": lam_damping}
    learner = make(strategy, inner_lr=0.02, inner_steps=5, cg_steps=60, **settings)
    network = copy.deepcopy(learner.network)
    start = torch.cat([value.detach().flatten() for value in network.parameters()])
    solutions = []
    for support_x, support_y, query_x, query_y in zip(*arrays(episode), strict=True):
        phi = inner_optimum(network, start, support_x, support_y, 0.02, spring, 5)
        hessian = torch.autograd.functional.hessian(lambda v: loss_at(network, v, support_x, support_y), phi)  # noqa: B023
        query_loss = loss_at(network, phi.requires_grad_(), query_x, query_y)
        (gradient,) = torch.autograd.grad(query_loss, phi)
        identity = torch.eye(len(phi), dtype=torch.float64)
        matrix = (1 + damping) * identity + hessian / (spring + lam_damping)
        undamped = (1 + damping) * identity + hessian / spring
        assert bool(torch.linalg.eigvalsh(undamped).min() < 0) == (spring == 1.0)
        assert torch.linalg.eigvalsh(matrix).min() > 0  # else no minimum, and conjugate gradients need not solve it
        solutions.append(torch.linalg.solve(matrix, gradient))
    expected = torch.stack(solutions).mean(0)
    ours = torch.cat([value.flatten() for value in learner.batch_gradient(episode).gradients.values()])
    assert (ours - expected).norm() / expected.norm() < 1e-6


def test_at_the_inner_optimum_it_is_the_derivative_of_the_query_loss(episode: Episode) -> None:
    learner = make(inner_lr=0.02, inner_steps=200, regularisation=30.0, cg_steps=60, cg_damping=0.0, lam_damping=0.0)
    network, task = learner.network, episode.tasks(0, 1)
    start = torch.cat([value.detach().flatten() for value in network.parameters()])
    ours = torch.cat([value.flatten() for value in learner.batch_gradient(task).gradients.values()])
    torch.manual_seed(1)
    direction = F.normalize(torch.randn_like(start), dim=0)

    def query_loss_from(theta: Tensor) -> Tensor:
        phi = inner_optimum(network, theta, task.task.x[0], task.task.y[0], 0.02, 30.0, 200)
        return loss_at(network, phi, task.query_x[0], task.query_y[0])

    slope = (query_loss_from(start + 1e-4 * direction) - query_loss_from(start - 1e-4 * direction)) / 2e-4
    assert (ours @ direction).item() == pytest.approx(slope.item(), rel=1e-4)


def test_without_conjugate_gradients_it_is_the_query_gradient(episode: Episode) -> None:
    learner = make(inner_steps=3, inner_lr=0.2, regularisation=1.0, cg_steps=0)
    network = learner.network
    start = torch.cat([value.detach().flatten() for value in network.parameters()])
    expected = torch.zeros_like(start)
    for support_x, support_y, query_x, query_y in zip(*arrays(episode), strict=True):
        phi = inner_optimum(network, start, support_x, support_y, 0.2, 1.0, 3).requires_grad_()
        expected += torch.autograd.grad(loss_at(network, phi, query_x, query_y), phi)[0] / 2
    ours = torch.cat([value.flatten() for value in learner.batch_gradient(episode).gradients.values()])
    torch.testing.assert_close(ours, expected)


def test_running_statistics_see_each_batch_once(episode: Episode) -> None:
    buffers = [make(running_stats=True, cg_steps=steps).batch_gradient(episode).buffers for steps in (0, 5)]
    assert any("running_mean" in name for name in buffers[0])
    assert all(torch.equal(buffers[0][name], buffers[1][name]) for name in buffers[0])


def test_conjugate_gradients_solve_every_task_and_stop_where_solved() -> None:
    generator = torch.Generator().manual_seed(0)
    roots = torch.rand(3, 6, 6, dtype=torch.float64, generator=generator)
    matrices = roots @ roots.transpose(1, 2) + torch.eye(6)
    right = torch.rand(3, 6, dtype=torch.float64, generator=generator)
    right[2] = 0
    for steps in (6, 50):
        solution = conjugate_gradient(lambda v: torch.einsum("tpq,tq->tp", matrices, v), right, steps)
        torch.testing.assert_close(solution, torch.linalg.solve(matrices, right))
    assert torch.equal(solution[2], torch.zeros(6, dtype=torch.float64))


def test_a_direction_that_does_not_curve_upwards_is_left() -> None:
    solution = conjugate_gradient(lambda v: -v, torch.ones(1, 4), 3)
    assert torch.equal(solution, torch.zeros(1, 4))


def test_five_conjugate_gradients_do_with_the_authors_dampings(
    episode: Episode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 16 steps of 0.1 and lambda = 2, the defaults and the paper's."""
    residuals: list[Tensor] = []

    def watched(product: Callable[[Tensor], Tensor], right: Tensor, steps: int) -> Tensor:
        solution = conjugate_gradient(product, right, steps)
        residuals.append((product(solution) - right).norm(dim=1) / right.norm(dim=1))
        return solution

    monkeypatch.setattr("modules.methods.imaml.conjugate_gradient", watched)
    make().batch_gradient(episode)
    make(lam_damping=0.0).batch_gradient(episode)
    damped, undamped = residuals
    assert damped.max() < 1e-3
    assert undamped.min() > 100 * damped.max()
