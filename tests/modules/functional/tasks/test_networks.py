"""One network applied to many tasks against plain calls of it."""

import copy

import pytest
import torch
from torch import nn

from modules.functional.tasks.networks import (
    Strategy,
    Variables,
    for_each_task,
    forward_tasks,
    normalises_by_batch,
    under_prefix,
)
from tests.learnable_images import TwoBlocks

T, B = 3, 4  # as many examples as SharedLayers has outputs: a wrong broadcast would not be noticed by its shape
STRATEGIES: list[Strategy] = ["batched", "vmap", "loop"]


@pytest.fixture
def network() -> TwoBlocks:
    torch.manual_seed(0)
    return TwoBlocks(running_stats=True).double()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(T, B, 1, 8, 8, dtype=torch.float64)


def variables_of(network: nn.Module, weights: str, n_tasks: int = T) -> Variables:
    """Weights shared by the tasks, of each task's own, or some of each; buffers of each task's own."""
    variables = {name: value.detach() for name, value in network.named_parameters()}
    own = {"shared": [], "per task": list(variables), "mixed": list(variables)[:1]}[weights]
    variables |= {n: value + 0.1 * torch.rand(n_tasks, *value.shape) for n, value in variables.items() if n in own}
    return variables | {n: value.expand(n_tasks, *value.shape).clone() for n, value in network.named_buffers()}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("weights", ["shared", "per task", "mixed"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("n_tasks", [T, 1])
def test_each_task_has_the_outputs_and_buffers_of_a_plain_call(
    network, images, strategy, weights, training, n_tasks
) -> None:
    network.train(training)
    variables = variables_of(network, weights, n_tasks)
    before = {name: value.clone() for name, value in variables.items()}
    outputs = forward_tasks(network, variables, images[:n_tasks], strategy)
    for t in range(n_tasks):
        plain = copy.deepcopy(network)
        own = {
            name: value[t] if value.dim() > plain.state_dict()[name].dim() else value for name, value in before.items()
        }
        plain.load_state_dict(own)
        torch.testing.assert_close(outputs[t], plain(images[t]))
        for name, buffer in plain.named_buffers():
            torch.testing.assert_close(variables[name][t], buffer)
            assert torch.equal(variables[name], before[name]) is not training


class SharedLayers(nn.Module):
    """One layer under two names, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.again = self.first
        self.last.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.again(self.first(x)))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "own_names", [["first.weight", "first.bias", "last.bias"], ["first.weight"], ["last.bias"], []]
)
def test_layers_may_share_weights(strategy: Strategy, own_names: list[str]) -> None:
    torch.manual_seed(0)
    network, x = SharedLayers().double(), torch.rand(T, B, 4, dtype=torch.float64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    variables = variables_of(network, "shared")
    variables |= {name: torch.rand(T, *variables[name].shape, dtype=torch.float64) for name in own_names}
    outputs = forward_tasks(network, variables, x, strategy)
    own = {name: v if v.dim() > before[name].dim() else v.expand(T, *v.shape) for name, v in variables.items()}
    assert own.keys() == {"first.weight", "first.bias", "last.bias"}
    for t in range(T):
        w, a, b = (own[name][t] for name in ("first.weight", "first.bias", "last.bias"))
        torch.testing.assert_close(outputs[t], ((x[t] @ w.T + a) @ w.T + a) @ w.T + b)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_networks_own_variables_are_neither_read_nor_written(network, images, strategy) -> None:
    variables = variables_of(network, "per task")
    for value in [*network.parameters(), *network.buffers()]:
        value.data.fill_(77)
    assert forward_tasks(network, variables, images, strategy).isfinite().all()
    assert all(bool((value == 77).all()) for value in network.state_dict().values())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_evaluation_takes_shared_running_statistics(network, images, strategy) -> None:
    variables = dict(network.state_dict())
    outputs = forward_tasks(network.eval(), variables, images, strategy)
    torch.testing.assert_close(outputs, network(images.flatten(0, 1)).unflatten(0, (T, B)))


def test_part_takes_the_prefix_off() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    assert under_prefix({"network.head.bias": a, "lr": b, "networks.head": b}, "network.") == {"head.bias": a}


def test_for_each_task_stays_connected_for_gradients() -> None:
    shared = torch.ones(2, requires_grad=True)
    own = for_each_task({"w": shared}, T)["w"]
    (gradient,) = torch.autograd.grad((own * torch.arange(1.0, T + 1)[:, None]).sum(), shared)
    assert own.shape == (T, 2)
    assert gradient.tolist() == [6.0, 6.0]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.BatchNorm2d(2), False),
        (nn.BatchNorm2d(2, track_running_stats=False), True),
        (nn.BatchNorm1d(2, track_running_stats=False), True),
        (nn.GroupNorm(1, 2), False),
        (nn.Linear(2, 2), False),
    ],
)
def test_only_batch_norm_without_running_statistics_normalises_by_batch(layer: nn.Module, expected: bool) -> None:
    assert normalises_by_batch(nn.Sequential(nn.ReLU(), layer)) is expected
