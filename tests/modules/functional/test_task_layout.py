"""What way of computing is chosen for which tasks."""

import pytest
import torch
from torch import nn

from modules.backbones import Backbone, Conv4
from modules.functional.per_task import layer_not_batched
from modules.functional.task_layout import CPU_FEATURES, batches_tasks, choose_chunk, choose_strategy, count_features
from tests.learnable_images import TwoBlocks


def chunk(network: nn.Module, n_tasks: int, examples: int, size: int) -> int:
    """For as many examples in the support set as in the query set."""
    images = torch.empty(n_tasks, examples // 2, 1, size, size)
    return choose_chunk(network, images, images)


def test_features_are_counted_layer_by_layer() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 7))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert count_features(network, torch.Size((1, 8, 8))) == 3 * 6 * 6 + 7
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_chunks_are_even_and_bound_the_features() -> None:
    per_task = 80 * (count_features(Conv4(), torch.Size((1, 28, 28))) or 0)
    for n_tasks in (2, 32, 512):
        at_once = chunk(Conv4(), n_tasks, 80, 28)
        assert at_once * per_task <= CPU_FEATURES
        n_chunks = -(-n_tasks // at_once)
        assert (n_chunks - 1) * at_once < n_tasks <= n_chunks * at_once  # none is empty
        assert n_chunks == 1 or n_tasks * per_task > (n_chunks - 1) * CPU_FEATURES  # and there are no more than needed


def test_small_tasks_are_computed_at_once_and_large_ones_alone() -> None:
    assert chunk(TwoBlocks(), 8, 80, 8) == 8
    assert chunk(Conv4(filters=64, image_size=84, downsample="pool"), 4, 80, 84) == 1


@pytest.mark.parametrize(
    ("network", "n_tasks", "expected"),
    [(TwoBlocks(), 8, "batched"), (TwoBlocks(), 1, "loop"), (TwoBlocks(activation=nn.PReLU), 8, "vmap")],
)
def test_the_strategy(network: Backbone, n_tasks: int, expected: str) -> None:
    assert choose_strategy(network, n_tasks, torch.Size((1, 8, 8))) == expected


class AcrossTheBatch(nn.Module):
    """Looks harmless: its weights are those of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        nn.init.zeros_(self.layer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x - x.mean(0))


class AcrossItsOwnBatch(nn.Module):
    """Doubles its batch, so that tasks get mixed up before a normalisation that hides the size of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.layer(torch.cat([x, x.flip(-1)])).chunk(2)
        return self.norm(first) + self.norm(second)


class LooksAtValues(nn.Module):
    """Cannot be traced without values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert bool(x.isfinite().all())
        return self.layer(x)


class OwnWeights(nn.Module):
    """Multiplies by a layer's weights without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.layer.weight[0]


class AcrossTheBatchALittle(nn.Module):
    """As little as round-off in float32 is."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + 1e-4 * x.mean(0))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", [AcrossTheBatch, AcrossItsOwnBatch, AcrossTheBatchALittle, OwnWeights])
def test_a_network_whose_tasks_would_see_each_other_is_found_out(kind: type[nn.Module], seed: int) -> None:
    torch.manual_seed(seed)
    network = kind()
    assert layer_not_batched(network) is None
    assert choose_strategy(network, 3, torch.Size((4,))) == "vmap"


class TakesFloat32(nn.Module):
    """Cannot be computed in another precision."""

    def __init__(self, leak: float) -> None:
        super().__init__()
        self.layer, self.leak = nn.Linear(4, 4), leak

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer((x + self.leak * x.mean(0)).float())


@pytest.mark.parametrize(("leak", "expected"), [(0.0, True), (1.0, False)])
def test_a_network_that_takes_float32_only_is_tried_in_it(leak: float, expected: bool) -> None:
    assert batches_tasks(TakesFloat32(leak), torch.Size((4,))) is expected


class PutsOutAsMuchAsWeights(nn.Module):
    """Looks at the shape of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[:, : self.layer.weight.shape[0]]


def test_a_network_that_looks_at_the_shape_of_its_weights_is_not_batched() -> None:
    assert not batches_tasks(PutsOutAsMuchAsWeights(), torch.Size((4,)))


@pytest.mark.parametrize("seed", range(10))
def test_a_deep_network_is_not_suspected(seed: int) -> None:
    torch.manual_seed(seed)
    assert batches_tasks(Conv4(filters=8, image_size=28), torch.Size((1, 28, 28)))


def test_a_network_whose_features_cannot_be_counted_takes_all_tasks_at_once() -> None:
    assert count_features(LooksAtValues(), torch.Size((4,))) is None
    examples = torch.rand(30, 2, 4)
    assert choose_chunk(LooksAtValues(), examples, examples) == 30
    assert choose_strategy(LooksAtValues(), 30, torch.Size((4,))) == "batched"


def test_counting_leaves_a_network_as_it_is_that_uses_a_layer_twice() -> None:
    layer = nn.Linear(4, 4)
    assert count_features(nn.Sequential(layer, layer), torch.Size((4,))) == 8
    assert layer.weight.device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("running_stats", [True, False])
def test_finding_out_leaves_the_network_as_it_is(dtype: torch.dtype, running_stats: bool) -> None:
    network = Conv4(running_stats=running_stats).to(dtype)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert batches_tasks(network, torch.Size((1, 28, 28)))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_on_a_gpu_all_tasks_are_computed_at_once() -> None:
    images = torch.empty(512, 40, 1, 28, 28, device="meta")  # as good as a GPU for what is not computed
    assert choose_chunk(Conv4(), images, images) == 512
