"""What way of computing is chosen for which tasks."""

import pytest
import torch
from torch import nn

from modules.backbones import Backbone, Conv4
from modules.functional.task_layout import CPU_FEATURES, TaskLayout, choose_layout, count_features
from tests.learnable_images import TwoBlocks


def layout(network: nn.Module, n_tasks: int, examples: int, size: int, chunk: int | None = None) -> TaskLayout:
    """For as many examples in the support set as in the query set."""
    images = torch.empty(n_tasks, examples // 2, 1, size, size, device="cpu")
    return choose_layout(network, images, images, chunk)


def test_features_are_counted_layer_by_layer() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 7))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert count_features(network, torch.Size((1, 8, 8))) == 3 * 6 * 6 + 7
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_the_usual_network_is_batched_in_even_chunks_that_bound_the_features() -> None:
    per_task = 80 * count_features(Conv4(), torch.Size((1, 28, 28)))
    for n_tasks in (2, 32, 512):
        strategy, chunk = layout(Conv4(), n_tasks, 80, 28)
        assert strategy == "batched"
        assert chunk * per_task <= CPU_FEATURES
        n_chunks = -(-n_tasks // chunk)
        assert (n_chunks - 1) * chunk < n_tasks <= n_chunks * chunk  # none is empty
        assert n_chunks == 1 or n_tasks * per_task > (n_chunks - 1) * CPU_FEATURES  # and there are no more than needed


@pytest.mark.parametrize(
    ("network", "n_tasks", "size", "chunk", "expected"),
    [
        (TwoBlocks(), 8, 8, None, ("batched", 8)),
        (TwoBlocks(), 1, 8, None, ("loop", 1)),
        (TwoBlocks(), 8, 8, 3, ("batched", 3)),
        (TwoBlocks(), 8, 8, 1, ("loop", 1)),
        (TwoBlocks(activation=nn.PReLU), 8, 8, None, ("vmap", 8)),
        (Conv4(filters=64, image_size=84, downsample="pool"), 4, 84, None, ("loop", 1)),
    ],
)
def test_the_choice(network: Backbone, n_tasks: int, size: int, chunk: int | None, expected: tuple[str, int]) -> None:
    assert layout(network, n_tasks, 80, size, chunk) == expected


def test_on_a_gpu_all_tasks_are_computed_at_once() -> None:
    images = torch.empty(512, 40, 1, 28, 28, device="meta")  # as good as a GPU for what is not computed
    assert choose_layout(Conv4(), images, images) == ("batched", 512)
