"""What way of computing is chosen for which tasks."""

import pytest
import torch
from torch import nn

from modules.backbones.conv4 import Conv4
from modules.functional.tasks.layout import CPU_FEATURES, batches_tasks, choose_chunk
from modules.functional.tasks.per_task import layer_not_batched
from tests.learnable_images import TwoBlocks


@pytest.mark.parametrize("features", [1, 4_000, 80 * 16_960, CPU_FEATURES, 3 * CPU_FEATURES])
def test_chunks_are_even_and_bound_the_features(features: int) -> None:
    for n_tasks in (2, 32, 512):
        at_once = choose_chunk(n_tasks, features, "cpu")
        assert at_once == 1 or at_once * features <= CPU_FEATURES
        n_chunks = -(-n_tasks // at_once)
        assert (n_chunks - 1) * at_once < n_tasks <= n_chunks * at_once  # none is empty
        fitting = max(1, CPU_FEATURES // features)
        assert (n_chunks - 1) * fitting < n_tasks  # and there are no more than needed


def test_a_task_of_unknown_cost_is_computed_with_all_others() -> None:
    assert choose_chunk(30, 0, "cpu") == 30


def test_on_a_gpu_all_tasks_are_computed_at_once() -> None:
    assert choose_chunk(512, CPU_FEATURES, "cuda") == 512


@pytest.mark.parametrize(
    ("network", "expected"), [(TwoBlocks(), True), (TwoBlocks(activation=nn.PReLU), False)], ids=["usual", "prelu"]
)
def test_the_usual_layers_are_batched(network: nn.Module, expected: bool) -> None:
    assert batches_tasks(network, torch.Size((1, 8, 8))) is expected


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
    assert not batches_tasks(network, torch.Size((4,)))


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


def test_a_network_that_looks_at_its_values_is_batched() -> None:
    assert batches_tasks(LooksAtValues(), torch.Size((4,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("running_stats", [True, False])
def test_finding_out_leaves_the_network_as_it_is(dtype: torch.dtype, running_stats: bool) -> None:
    network = Conv4(running_stats=running_stats).to(dtype)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert batches_tasks(network, torch.Size((1, 28, 28)))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
