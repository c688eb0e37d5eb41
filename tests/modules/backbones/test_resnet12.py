"""ResNet-12 against its description, and its way through the strategies."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from modules import MAML, OuterLoop, ResNet12
from modules.functional.tasks.layout import batches_tasks
from modules.functional.tasks.networks import Strategy, for_each_task, forward_tasks
from tests.learnable_images import make_episode

SMALL = (4, 6, 8, 10)


def described(network: ResNet12, images: Tensor) -> Tensor:
    """The paper's blocks by the functions of torch, with the batch's own statistics."""

    def normalised(maps: Tensor, conv: Any, norm: Any, padding: int) -> Tensor:
        maps = functional.conv2d(maps, conv.weight, padding=padding)
        return functional.batch_norm(maps, None, None, norm.weight, norm.bias, training=True)

    maps = images
    for block in cast(list[Any], network.blocks):
        out = maps
        for first in (0, 3, 6):
            out = normalised(out, block.branch[first], block.branch[first + 1], 1)
            out = functional.leaky_relu(out, 0.1) if first < 6 else out
        out = out + normalised(maps, block.shortcut[0], block.shortcut[1], 0)
        maps = functional.max_pool2d(functional.leaky_relu(out, 0.1), 2)
    return functional.adaptive_avg_pool2d(maps, 1).flatten(1)


def test_it_computes_what_the_paper_describes() -> None:
    network = ResNet12(drop_rate=0, running_stats=False, image_size=32, widths=SMALL).double()
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(network(images), described(network, images))


def test_the_fields_size_has_as_many_parameters_as_published() -> None:
    network = ResNet12()
    assert sum(p.numel() for p in network.parameters()) == 12_424_320  # quoted as 12.4 M
    assert (network.feature_dim, network.input_shape) == (640, (3, 84, 84))


def test_it_drops_values_in_training_only_and_squares_in_the_last_blocks() -> None:
    network = ResNet12(drop_rate=0.5, block_size=2, image_size=64, widths=SMALL)
    maps: list[Tensor] = []
    for block in cast(list[Any], network.blocks):
        block.drop.register_forward_hook(lambda layer, inputs, output: maps.append(output))
    network(torch.rand(2, 3, 64, 64))
    assert all((dropped == 0).any() for dropped in maps)
    for dropped in maps[2:]:  # every zero belongs to a square of zeros
        zero = (dropped == 0).float()
        squares = functional.avg_pool2d(zero, 2, stride=1) == 1
        in_a_square = functional.max_pool2d(functional.pad(squares.float(), (1, 1, 1, 1)), 2, stride=1)
        assert torch.equal(in_a_square, zero)
    maps.clear()
    network.eval()(torch.rand(2, 3, 64, 64))
    assert not any((kept == 0).any() for kept in maps)


@pytest.mark.parametrize("drop_rate", [0.0, 0.1])
@pytest.mark.parametrize("running_stats", [True, False])
def test_every_strategy_computes_the_same_without_drawing(running_stats: bool, drop_rate: float) -> None:
    network = ResNet12(running_stats=running_stats, image_size=16, widths=SMALL, drop_rate=drop_rate).double().eval()
    own = for_each_task(dict(network.named_parameters()) | dict(network.named_buffers()), 2)
    variables = {name: v * (1 + 0.1 * torch.rand_like(v)) if v.is_floating_point() else v for name, v in own.items()}
    x = torch.rand(2, 5, 3, 16, 16, dtype=torch.float64)
    strategies: tuple[Strategy, ...] = ("loop", "vmap", "batched")
    loop, vmap, batched = (forward_tasks(network, variables, x, strategy) for strategy in strategies)
    torch.testing.assert_close(vmap, loop)
    torch.testing.assert_close(batched, loop)


def test_dropout_does_not_keep_tasks_from_being_batched() -> None:
    network = ResNet12(image_size=16, widths=SMALL)
    assert batches_tasks(network, torch.Size((3, 16, 16)))
    assert cast(Any, network.blocks[0]).drop.training


@pytest.mark.parametrize("strategy", ["batched", "vmap", "loop"])
def test_tasks_draw_masks_of_their_own_in_training(strategy: Strategy) -> None:
    network = ResNet12(image_size=16, widths=SMALL, drop_rate=0.5)
    variables: dict[str, Tensor] = dict(network.named_parameters())
    variables |= for_each_task(dict(network.named_buffers()), 2)
    variables = {name: v.clone() for name, v in variables.items()}
    image = torch.rand(1, 4, 3, 16, 16).expand(2, -1, -1, -1, -1)
    first, second = forward_tasks(network, variables, image, strategy)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("strategy", ["batched", "vmap", "loop"])
def test_maml_differentiates_through_it_twice(strategy: Strategy) -> None:
    backbone = ResNet12(image_size=16, widths=SMALL, running_stats=True)
    learner = MAML(3, backbone, 0.1, outer=OuterLoop(task_strategy=strategy))

    grey = make_episode(2, torch.float32)
    coloured = grey.map_inputs(lambda x: functional.pad(x, (4, 4, 4, 4)).expand(-1, -1, 3, -1, -1))
    gradients, _ = learner.outer_gradients(learner.variables(2), coloured)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 15}, "image_size = 15 is too small .* use 16 or more"),
        ({"drop_rate": 1.0}, r"drop_rate must be in \[0, 1\), got 1.0"),
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
        ({"running_stats": False, "frozen": True, "widths": SMALL}, "set the backbone's running_stats to true"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet12(**arguments)
