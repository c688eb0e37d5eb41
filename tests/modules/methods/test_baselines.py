"""Training from scratch against torch's optimisers, pre-training against the pooled examples of all tasks."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from datamodules.episode import Episode, Task
from datamodules.objective import REGRESSION
from modules import MLP, FromScratch, JointTraining, OuterLoop
from tests.learnable_images import TwoBlocks, arrays, make_episode
from tests.scored_tasks import score_tasks

STRATEGIES = ["batched", "vmap", "loop"]


def from_scratch(strategy: str, **changes: Any) -> FromScratch:
    torch.manual_seed(0)
    outer = OuterLoop(task_strategy=strategy)  # type: ignore[arg-type]
    return FromScratch(3, TwoBlocks(), inner_steps=4, outer=outer, **changes).double()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_every_task_trains_the_same_random_network_by_torchs_optimiser(strategy: str, kind: str) -> None:
    learner, episode = from_scratch(strategy, inner_optimizer=kind, inner_lr=0.05).eval(), make_episode(3)
    losses = score_tasks(learner, episode, both_protocols=False)["loss"]
    for loss, support_x, support_y, query_x, query_y in zip(losses, *arrays(episode), strict=True):
        network = copy.deepcopy(learner.network)
        optimizer: Any = (torch.optim.Adam if kind == "adam" else torch.optim.SGD)(network.parameters(), lr=0.05)
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(network(support_x), support_y).backward()
            optimizer.step()
        torch.testing.assert_close(loss, F.cross_entropy(network(query_x), query_y).detach())


def test_training_from_scratch_has_no_outer_gradient() -> None:
    gradient = from_scratch("batched").batch_gradient(make_episode(3))
    assert all(not value.any() for value in gradient.gradients.values())
    assert gradient.metrics.keys() == {"loss", "accuracy"}
    assert not gradient.metrics["loss"].requires_grad


def curves(n_tasks: int) -> Episode:
    """Points of random lines."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n_tasks, 10, 1, generator=generator, dtype=torch.float64)
    y = torch.rand(n_tasks, 1, generator=generator, dtype=torch.float64) * x.squeeze(-1)
    return Episode(Task.of(x[:, :6], y[:, :6], 1), x[:, 6:], y[:, 6:], torch.arange(n_tasks))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pre_training_is_ordinary_training_on_all_examples(strategy: str) -> None:
    torch.manual_seed(0)
    learner = JointTraining(1, MLP(), outer=OuterLoop(task_strategy=strategy)).double()  # type: ignore[arg-type]
    learner.objective = REGRESSION
    network, episode = copy.deepcopy(learner.network), curves(3)
    x, y = torch.cat([episode.task.x, episode.query_x], 1), torch.cat([episode.task.y, episode.query_y], 1)
    loss = F.mse_loss(network(x.flatten(0, 1)).squeeze(-1), y.flatten())
    loss.backward()
    gradient = learner.batch_gradient(episode)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(gradient.gradients[f"network.{name}"], parameter.grad)
    assert gradient.metrics.keys() == {"joint_loss"}  # no task is adapted to, so that there is no query loss
    torch.testing.assert_close(gradient.metrics["joint_loss"], loss.detach())


def test_a_pre_trained_network_is_fine_tuned_in_evaluation() -> None:
    torch.manual_seed(0)
    learner, episode = JointTraining(1, MLP(), eval_inner_lr=0.1, eval_inner_steps=3).double().eval(), curves(2)
    learner.objective = REGRESSION
    scores = score_tasks(learner, episode, both_protocols=True)
    for t in range(2):
        network = copy.deepcopy(learner.network)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for step in range(4):
            error = F.mse_loss(network(episode.query_x[t]).squeeze(-1), episode.query_y[t])
            torch.testing.assert_close(scores[f"mse_after_{step}"][t].double(), error.detach(), rtol=1e-5, atol=1e-6)
            optimizer.zero_grad()
            F.mse_loss(network(episode.task.x[t]).squeeze(-1), episode.task.y[t]).backward()
            optimizer.step()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_an_mlp_is_linear_layers_with_activations(activation: Any, batch_norm: bool) -> None:
    torch.manual_seed(0)
    network = MLP([1, 2, 3], [5, 4], activation, batch_norm)
    x = torch.rand(7, 1, 2, 3)
    assert network.feature_dim == 4
    assert network.input_shape == (1, 2, 3)
    expected = x.flatten(1)
    for layer in (layer for layer in network.layers if isinstance(layer, nn.Linear)):
        assert (layer.bias is None) is batch_norm
        expected = F.linear(expected, layer.weight, layer.bias)
        expected = F.batch_norm(expected, None, None, training=True) if batch_norm else expected
        expected = expected.relu() if activation == "relu" else expected.tanh()
    torch.testing.assert_close(network(x), expected)


def test_a_frozen_mlp_of_vectors_is_still_applied() -> None:
    network = MLP([3], [5], frozen=True)
    assert network(torch.rand(2, 3)).shape == (2, 5)


@pytest.mark.parametrize(("shape", "widths"), [([3], []), ([3], [4, 0]), ([0], [4]), ([], [4])])
def test_an_mlp_without_units_is_refused(shape: list[int], widths: list[int]) -> None:
    with pytest.raises(ValueError, match="an MLP needs one layer or more"):
        MLP(shape, widths)
