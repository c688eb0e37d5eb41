"""What a network may do with weights that differ from task to task."""

import pytest
import torch
from torch import Tensor, nn

from modules.backbones.conv4 import Conv4
from modules.functional.tasks.networks import Strategy, for_each_task, forward_tasks
from modules.functional.tasks.per_task import PerTask, layer_not_batched, task_linear
from tests.learnable_images import TwoBlocks, make_data
from tests.training_runs import make_learner, make_trainer

STRATEGIES: list[Strategy] = ["batched", "loop"]


class Scaled(nn.Module):
    """Multiplies by a parameter, which no hand-written form knows of."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def test_an_operation_without_a_form_is_refused_and_not_broadcast() -> None:
    network = Scaled()
    weights = for_each_task(dict(network.named_parameters()), 3)  # (3, 3) would broadcast against (3, 3) examples
    with pytest.raises(NotImplementedError, match="mul on weights that differ from task to task"):
        forward_tasks(network, weights, torch.rand(3, 1, 3), "batched")


def test_a_form_sees_plain_tensors_connected_for_gradients() -> None:
    weight = torch.rand(2, 4, 3, requires_grad=True)
    outputs = nn.functional.linear(torch.rand(10, 3), weight.as_subclass(PerTask))
    assert type(outputs) is Tensor
    assert weight.as_subclass(PerTask).dtype == torch.float32
    (gradient,) = torch.autograd.grad(outputs.sum(), weight)
    assert gradient.shape == weight.shape


@pytest.mark.parametrize("with_bias", [True, False])
def test_linear_is_each_tasks_own(with_bias: bool) -> None:
    x, weight, bias = torch.rand(10, 3), torch.rand(2, 4, 3), torch.rand(2, 4)
    outputs = task_linear(x, weight, bias if with_bias else None)
    expected = [nn.functional.linear(x[5 * t : 5 * t + 5], weight[t], bias[t] if with_bias else None) for t in (0, 1)]
    torch.testing.assert_close(outputs, torch.cat(expected))


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (Conv4(), None),
        (nn.Sequential(TwoBlocks(running_stats=True), nn.Flatten(), nn.Linear(2, 2)), None),
        (nn.Sequential(nn.ReLU(), Scaled()), "1 (Scaled)"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, groups=2)), "0 (Conv2d)"),
        (nn.Conv2d(2, 2, 3, padding="same"), "the network (Conv2d)"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "the network (Conv2d)"),
        (nn.BatchNorm2d(2, momentum=None), "the network (BatchNorm2d)"),
        (nn.BatchNorm2d(2, affine=False, track_running_stats=False), "the network (BatchNorm2d)"),
        (nn.Dropout(), None),
        (nn.LayerNorm(2), "the network (LayerNorm)"),
    ],
)
def test_layers_without_a_form_are_named(network: nn.Module, layer: str | None) -> None:
    assert layer_not_batched(network) == layer


def test_batched_for_a_network_without_the_forms_is_refused_before_training() -> None:
    learner = make_learner("maml", seed=1, task_strategy="batched")
    learner.network.append(nn.PReLU())  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"cannot compute the network's layer 2 \(PReLU\)"):
        make_trainer().fit(learner, datamodule=make_data())


@pytest.mark.parametrize("network", [nn.Linear(3, 4), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)])
@pytest.mark.parametrize("own", [{"weight"}, {"bias"}, {"weight", "bias"}, set()])
def test_weights_may_be_shared_or_of_each_task_in_any_mixture(network: nn.Module, own: set[str]) -> None:
    """With as many examples as outputs, so that a wrong broadcast would not be noticed by its shape."""
    shape = {nn.Linear: (3,), nn.Conv2d: (1, 3, 3), nn.BatchNorm2d: (4, 2, 2)}[type(network)]
    variables = {name: value.detach().clone() for name, value in network.named_parameters()}
    variables |= {name: torch.rand(2, *variables[name].shape) for name in own}
    variables |= {name: torch.stack([value, value]) for name, value in network.named_buffers()}
    x = torch.rand(2, 4, *shape)
    outputs = [
        forward_tasks(network, {name: v.clone() for name, v in variables.items()}, x, strategy)
        for strategy in STRATEGIES
    ]
    torch.testing.assert_close(outputs[0], outputs[1])


@pytest.mark.parametrize("name", ["mT", "shape", "ndim"])
def test_a_weight_neither_tells_its_shape_nor_is_turned_round(name: str) -> None:
    """A network would not expect the shape to begin with the number of tasks."""
    weight = torch.rand(2, 3, 4).as_subclass(PerTask)
    with pytest.raises(NotImplementedError, match="differ from task to task"):
        getattr(weight, name)


def test_a_layer_that_came_later_is_seen() -> None:
    network = nn.Sequential(nn.Linear(3, 3))
    for _ in range(2):
        variables = for_each_task(dict(network.named_parameters()), 2)
        outputs = forward_tasks(network, variables, torch.ones(2, 1, 3), "batched")
        torch.testing.assert_close(outputs[0], network(torch.ones(1, 3)))
        network.append(nn.Linear(3, 3))
