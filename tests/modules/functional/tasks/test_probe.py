"""What is tried before a way of computing is chosen: not deceived by a GPU's TF32, and leaving no trace."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from modules import Conv4
from modules.functional.tasks.independence import is_per_example
from modules.functional.tasks.layout import batches_tasks
from modules.functional.tasks.shared_weights import can_share_a_batch

SHAPE = torch.Size((1, 28, 28))
Probe = Callable[[nn.Module, torch.Size], bool]


class Tf32(TorchDispatchMode):
    """Convolutions of float32 as on a GPU that multiplies some of them in TF32: 10 bits of each factor count.

    Args:
        takes: Which ones, by their batch's size and number of groups.
        switch: Whether PyTorch's own setting turns it off.
    """

    def __init__(self, takes: Callable[[int, int], bool], switch: bool) -> None:
        super().__init__()
        self.takes, self.switch = takes, switch

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.convolution.default and args[0].dtype is torch.float32:
            on = torch.backends.cudnn.allow_tf32 or not self.switch
            if on and self.takes(len(args[0]), args[8]):
                args = (*(_shortened(value) for value in args[:2]), *args[2:])
        return function(*args, **(kwargs or {}))


def _shortened(value: Tensor) -> Tensor:
    """13 of the 23 bits after the point rounded away."""
    return ((value.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


# Of each probe, the convolutions of one of the two ways that it compares.
PROBES: dict[str, tuple[Probe, Callable[[int, int], bool]]] = {
    "each alone": (is_per_example, lambda batch, groups: batch == 2),
    "tasks apart": (can_share_a_batch, lambda batch, groups: batch == 6),
    "batched": (batches_tasks, lambda batch, groups: groups == 1),
}
each_probe = pytest.mark.parametrize(("probe", "takes"), PROBES.values(), ids=PROBES)


class TakesFloat32(nn.Module):
    """Computes in nothing else, as an operation with a kernel of its own does."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Conv4(running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype is not torch.float32:
            raise NotImplementedError(f"no kernel for {x.dtype}")
        return self.network(x)


class CastsToFloat32(nn.Module):
    """Takes any precision and computes in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x.float(), self.weight.float()).flatten(1)


@each_probe
@pytest.mark.parametrize("seed", range(3))
def test_tf32_changes_no_choice(probe: Probe, takes: Callable[[int, int], bool], seed: int) -> None:
    torch.manual_seed(seed)
    network = Conv4(running_stats=True).eval()
    with Tf32(takes, switch=False):
        assert probe(network, SHAPE)


@each_probe
def test_tf32_is_off_where_float64_cannot_be(probe: Probe, takes: Callable[[int, int], bool]) -> None:
    torch.manual_seed(0)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with Tf32(takes, switch=True):
        assert probe(TakesFloat32().eval(), SHAPE)
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


@pytest.mark.parametrize("probe", [is_per_example, can_share_a_batch])
def test_a_network_that_casts_is_compared_as_float32_is(probe: Probe) -> None:
    torch.manual_seed(0)
    assert probe(CastsToFloat32().eval(), SHAPE)


class Never(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise TypeError("not so")


class Noisy(nn.Module):
    """Draws numbers that no switch turns off."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + torch.rand_like(x))


class Keeps(nn.Module):
    """Counts its calls in a buffer and in an attribute, and keeps what it has computed, in the precision of then."""

    count: Tensor
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 4), 0
        self.scale: Tensor | None = None
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.count += 1
        self.mean += x.detach().mean(0)
        if self.scale is None:
            self.scale = torch.full((4,), 2.0).to(x)
        return self.layer(x) * self.scale


@pytest.mark.parametrize("probe", [is_per_example, can_share_a_batch, batches_tasks])
@pytest.mark.parametrize("kind", [Never, Noisy])
def test_what_cannot_be_told_is_not_trusted(probe: Probe, kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    generator = torch.random.get_rng_state()
    network = kind().eval()
    after_building = torch.random.get_rng_state()
    assert not probe(network, torch.Size((4,)))
    assert torch.equal(torch.random.get_rng_state(), after_building)
    assert kind is Never or not torch.equal(generator, after_building)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("probe", [is_per_example, can_share_a_batch, batches_tasks])
def test_a_probe_leaves_no_trace(probe: Probe, training: bool) -> None:
    network = Keeps().train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    probe(network, torch.Size((4,)))
    assert network.calls == 0
    assert network.scale is None
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network(torch.rand(2, 4)).dtype is torch.float32


def test_a_network_that_cannot_be_copied_is_tried_itself() -> None:
    network = nn.utils.weight_norm(nn.Linear(4, 4)).eval()
    assert is_per_example(network, torch.Size((4,)))
    assert can_share_a_batch(network, torch.Size((4,)))
    assert network(torch.rand(2, 4)).dtype is torch.float32
