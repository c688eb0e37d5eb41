"""Whether a network treats each example for itself, and the one batch that follows from it."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from modules import Conv4, ResNet12, Timm
from modules.functional.tasks.independence import is_per_example
from modules.functional.tasks.networks import Strategy, forward_tasks

SHAPE = torch.Size((3, 16, 16))
SMALL = (2, 3, 4, 5)


class Centred(nn.Module):
    """Sees its batch, without weights."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class CentredInTraining(Centred):
    """Sees its batch in training alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else x


def conv4(running_stats: bool) -> Conv4:
    return Conv4(3, 4, 16, running_stats=running_stats)


@pytest.mark.parametrize(
    ("network", "in_evaluation", "in_training"),
    [
        (conv4(running_stats=True), True, False),
        (conv4(running_stats=False), False, False),
        (ResNet12(image_size=16, widths=SMALL), True, False),
        (Timm("test_vit", pretrained=False, image_size=16), True, True),
        (nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(768, 3)), True, True),
        (nn.Sequential(conv4(running_stats=True), Centred()), False, False),
        (nn.Sequential(nn.Flatten(), CentredInTraining()), True, False),
        (nn.Sequential(nn.Flatten(), nn.GroupNorm(4, 768)), True, True),
    ],
)
def test_what_looks_across_its_batch_is_found_out(network: nn.Module, in_evaluation: bool, in_training: bool) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.random.get_rng_state()
    assert is_per_example(network.eval(), SHAPE) is in_evaluation
    assert is_per_example(network.train(), SHAPE) is in_training
    assert is_per_example(network.eval(), SHAPE) is in_evaluation  # from the cache
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), generator)


def test_a_frozen_one_that_is_trained_again_is_asked_again() -> None:
    network = conv4(running_stats=True)
    network.freeze()
    assert is_per_example(network.train(), SHAPE)
    network.frozen = False
    assert not is_per_example(network.train(), SHAPE)


@pytest.mark.parametrize("strategy", get_args(Strategy))
@pytest.mark.parametrize("separate", [True, False])
def test_one_batch_gives_what_a_loop_gives(strategy: Strategy, separate: bool) -> None:
    """Also where examples do see each other, and nothing may be joined."""
    torch.manual_seed(0)
    network = conv4(running_stats=separate).double().eval()
    variables = dict(network.named_parameters()) | dict(network.named_buffers())
    x = torch.rand(4, 5, *SHAPE, dtype=torch.float64)
    expected = torch.stack([network(task_x) for task_x in x])
    torch.testing.assert_close(forward_tasks(network, variables, x, strategy), expected)


def test_a_shared_network_is_called_once_for_all_tasks() -> None:
    network, sizes = Timm("test_vit", pretrained=False, image_size=16), []
    variables = dict(network.named_parameters()) | dict(network.named_buffers())
    x = torch.rand(4, 5, *SHAPE)
    assert is_per_example(network, SHAPE)
    network.register_forward_pre_hook(lambda layer, inputs: sizes.append(len(inputs[0])))
    forward_tasks(network, variables, x, "loop")
    assert sizes == [20]
    own = variables | {"model.norm.weight": variables["model.norm.weight"].expand(4, -1)}
    forward_tasks(network, own, x, "loop")
    assert sizes == [20, 5, 5, 5, 5]
