"""ES-MAML against plain loops over tasks and directions, and against the gradient that it estimates."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from datamodules.episode import Episode
from modules import ESMAML, OuterLoop
from modules.functional.normal_numbers import normal_numbers
from modules.methods.es_maml import evolution_gradient
from tests.learnable_images import TwoBlocks, arrays, make_episode

N_OUTER, N_INNER, STEPS = 3, 2, 2


@pytest.fixture
def episode() -> Episode:
    return make_episode(2)


def make(strategy: str = "loop", running_stats: bool = False, **changes: Any) -> ESMAML:
    torch.manual_seed(0)
    outer = OuterLoop(task_strategy=strategy)  # type: ignore[arg-type]
    sizes = {"directions": N_OUTER, "inner_directions": N_INNER, "inner_steps": STEPS, "inner_lr": 0.5}
    arguments: dict[str, Any] = sizes | {"sigma": 0.2, "inner_sigma": 0.3} | changes
    return ESMAML(3, TwoBlocks(running_stats, filters=2), outer=outer, **arguments).double()


def cost_of(network: nn.Module, vector: Tensor, x: Tensor, y: Tensor, improve: str) -> Tensor:
    parameters = dict(network.named_parameters())
    parts = vector.split([value.numel() for value in parameters.values()])
    weights = {name: part.view_as(value) for (name, value), part in zip(parameters.items(), parts, strict=True)}
    outputs = functional_call(network, weights, (x,))
    return F.cross_entropy(outputs, y) if improve == "loss" else -(outputs.argmax(1) == y).float().mean()


def estimate(cost: Callable[[Tensor], Tensor], at: Tensor, directions: Tensor, sigma: float) -> Tensor:
    """Algorithm 2, one direction after the other."""
    total = torch.zeros_like(at)
    for g in directions:
        total += (cost(at + sigma * g) - cost(at - sigma * g)) * g / (2 * sigma * len(directions))
    return total


@pytest.mark.parametrize("strategy", ["batched", "vmap", "loop"])
@pytest.mark.parametrize("improve", ["loss", "score"])
@pytest.mark.parametrize("adapts", ["network", "head"])
def test_both_loops_are_plain_loops_over_the_directions(
    episode: Episode, strategy: str, improve: Any, adapts: str
) -> None:
    learner = make(strategy, improve=improve, adapts=adapts)
    network = copy.deepcopy(learner.network)
    start = torch.cat([value.detach().flatten() for value in network.parameters()])
    noise = learner.draw_noise(episode.task_id, 6, STEPS).double()
    assert noise.shape == (2, STEPS * N_INNER + N_OUTER, len(start))
    if adapts == "head":  # the last weights
        n_head = sum(value.numel() for value in network.get_submodule("head").parameters())
        noise[:, : STEPS * N_INNER, :-n_head] = 0
    expected = torch.zeros_like(start)
    for t, (support_x, support_y, query_x, query_y) in enumerate(zip(*arrays(episode), strict=True)):

        def adapted_cost(theta: Tensor) -> Tensor:
            for step in range(STEPS):
                directions = noise[t, step * N_INNER : (step + 1) * N_INNER]  # noqa: B023
                support_cost = lambda v: cost_of(network, v, support_x, support_y, improve)  # noqa: B023, E731
                theta = theta - 0.5 * estimate(support_cost, theta, directions, 0.3)
            return cost_of(network, theta, query_x, query_y, improve)  # noqa: B023

        expected += estimate(adapted_cost, start, noise[t, -N_OUTER:], 0.2) / 2
    ours = torch.cat([value.flatten() for value in learner.batch_gradient(episode).gradients.values()])
    assert expected.norm() > 0
    assert len(ours) == len(start)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-8)


def test_the_estimate_is_the_gradient_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(1, 200_000, 3, generator=generator, dtype=torch.float64)
    at = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    points = [at + sign * 0.1 * directions for sign in (1, -1)]
    above, below = ((p.square() * torch.tensor([1.0, 2.0, 3.0])).sum(-1).unsqueeze(1) for p in points)  # (1, 1, N)
    gradient = evolution_gradient(above, below, directions, 0.1)
    torch.testing.assert_close(gradient[0, 0], 2 * at * torch.tensor([1.0, 2.0, 3.0]), rtol=0, atol=0.15)


def test_normal_numbers_are_standard_normal() -> None:
    numbers = normal_numbers(torch.randint(0, 1 << 32, (400_000,), generator=torch.Generator().manual_seed(0)))
    assert numbers.dtype == torch.float32
    assert numbers.isfinite().all()
    assert numbers.mean().abs() < 0.01
    assert numbers.var().item() == pytest.approx(1, abs=0.01)
    assert (numbers.abs() < 1).float().mean().item() == pytest.approx(0.6827, abs=0.003)
    ends = normal_numbers(torch.tensor([0, (1 << 32) - 1]))
    assert ends[0] == -ends[1]
    assert 6 < ends[1] < 6.5


def test_directions_are_a_function_of_the_task() -> None:
    learner = make()
    both = learner.draw_noise(torch.tensor([5, 9]), 6, STEPS)
    assert torch.equal(learner.draw_noise(torch.tensor([9]), 6, STEPS)[0], both[1])
    assert not torch.equal(both[0], both[1])
    evaluated = learner.eval().draw_noise(torch.tensor([5]), 6, STEPS)
    assert evaluated.shape[1] == STEPS * N_INNER


def test_running_statistics_are_means_over_the_perturbed_networks(episode: Episode) -> None:
    learner = make(running_stats=True, sigma=1e-9, inner_lr=1e-9)
    mean = learner.batch_gradient(episode).buffers["network.backbone.layers.1.running_mean"]
    convolution = learner.network.get_submodule("backbone.layers.0")
    expected = 0.1 * torch.stack([convolution(x).mean((0, 2, 3)) for x in episode.query_x]).mean(0)
    torch.testing.assert_close(mean, expected.detach(), rtol=1e-5, atol=1e-8)
    assert learner.batch_gradient(episode).buffers["network.backbone.layers.1.num_batches_tracked"] == 1


def test_no_derivative_is_taken(episode: Episode, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("differentiated")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    monkeypatch.setattr(Tensor, "backward", refuse)
    learner = make()
    assert learner.batch_gradient(episode).gradients["network.head.weight"].norm() > 0
    learner.eval()
    *_, state = learner.adapt(learner.variables(len(episode.task_id)), learner.with_noise(episode).task, 2)
    assert not torch.equal(state["network.head.weight"][0], learner.state_dict()["network.head.weight"])
