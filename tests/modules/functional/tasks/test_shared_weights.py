"""One set of weights on many tasks at once, against the network on each task alone."""

import pytest
import torch
from torch import Tensor, nn

from modules.functional.tasks.shared_weights import can_share_a_batch, forward_shared


def convolutions(affine: bool = True, running_stats: bool = False) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=affine, track_running_stats=running_stats), nn.ReLU()]
    head = [nn.Flatten(), nn.Linear(4 * 16, 5), nn.BatchNorm1d(5, track_running_stats=running_stats)]
    return nn.Sequential(*layers, *head).double().eval()


def variables_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in [*network.named_parameters(), *network.named_buffers()]}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("running_stats", [True, False])
def test_tasks_at_once_are_tasks_alone(affine: bool, running_stats: bool) -> None:
    network = convolutions(affine, running_stats)
    x = torch.rand(3, 7, 2, 6, 6, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.2]).view(3, 1, 1, 1, 1)
    with torch.no_grad():
        alone = torch.stack([network(task) for task in x])
        together = forward_shared(network, variables_of(network), x)
    torch.testing.assert_close(together, alone)


def test_weights_repeated_for_each_task_are_taken_once() -> None:
    network = convolutions()
    x = torch.rand(3, 7, 2, 6, 6, dtype=torch.float64)
    repeated = {name: value.expand(3, *value.shape) for name, value in variables_of(network).items()}
    with torch.no_grad():
        torch.testing.assert_close(
            forward_shared(network, repeated, x), forward_shared(network, variables_of(network), x)
        )


def test_halves_are_normalised_in_single_precision() -> None:
    network = convolutions().float()
    x = torch.rand(2, 5, 2, 6, 6)
    with torch.no_grad():
        exact = forward_shared(network, variables_of(network), x)
        halves = forward_shared(network.bfloat16(), variables_of(network), x.bfloat16())
    assert halves.dtype == torch.bfloat16
    assert (halves.float() - exact).abs().mean() < 0.1


class _MinusMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class _OfOneBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(3, 2, 6, 6)


@pytest.mark.parametrize(("layer", "apart"), [(nn.ReLU(), True), (_MinusMean(), False), (_OfOneBatch(), False)])
def test_what_looks_across_its_batch_is_found(layer: nn.Module, apart: bool) -> None:
    network = nn.Sequential(layer, convolutions())
    assert can_share_a_batch(network, torch.Size((2, 6, 6))) is apart
