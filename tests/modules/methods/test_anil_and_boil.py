"""ANIL against learn2learn's MAML on the features, BOIL against a plain loop; and what each leaves as it was."""

import copy
from typing import cast

import pytest
import torch
from learn2learn.algorithms import MAML as Reference  # noqa: N811
from torch import nn
from torch.nn import functional as F

from datamodules.episode import Episode
from modules import ANIL, BOIL, MAML, OuterLoop
from tests.learnable_images import TwoBlocks, arrays, make_episode
from tests.modules.methods import naive_maml
from tests.scored_tasks import score_tasks

STRATEGIES = ["batched", "vmap", "loop"]


@pytest.fixture
def episode() -> Episode:
    return make_episode(3)


def make(kind: type[MAML], strategy: str, **changes: bool | int) -> MAML:
    torch.manual_seed(0)
    outer = OuterLoop(task_strategy=strategy)  # type: ignore[arg-type]
    return kind(3, TwoBlocks(), 0.3, outer=outer, **changes).double()  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_anil_is_learn2learns_maml_on_the_features(
    episode: Episode, strategy: str, first_order: bool, steps: int
) -> None:
    learner = make(ANIL, strategy, inner_steps=steps, first_order=first_order)
    network = copy.deepcopy(learner.network)
    backbone, head = network.get_submodule("backbone"), network.get_submodule("head")
    reference, losses = Reference(head, lr=0.3, first_order=first_order), []
    for support_x, support_y, query_x, query_y in zip(*arrays(episode), strict=True):
        clone, features = reference.clone(), backbone(support_x)
        for _ in range(steps):
            clone.adapt(F.cross_entropy(clone(features), support_y))
        losses.append(F.cross_entropy(clone(backbone(query_x)), query_y))
    torch.stack(losses).mean().backward()
    naive_maml.assert_gradients(learner.batch_gradient(episode).gradients, gradients_of(network))


def gradients_of(network: nn.Module) -> naive_maml.Weights:
    return {f"network.{name}": cast(torch.Tensor, p.grad) for name, p in network.named_parameters()}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("steps", [1, 3])
def test_boil_is_a_plain_loop_that_moves_the_backbone(episode: Episode, strategy: str, steps: int) -> None:
    learner = make(BOIL, strategy, inner_steps=steps)
    weights: dict[str, torch.Tensor] = dict(learner.network.named_parameters())
    body = [name for name in weights if name.startswith("backbone")]
    losses = []
    for support_x, support_y, query_x, query_y in zip(*arrays(episode), strict=True):
        args = (learner.network, weights, body, support_x, support_y, lambda step, name: 0.3, steps)
        losses.append(naive_maml.query_loss(learner.network, naive_maml.adapt(*args), query_x, query_y))
    gradients = torch.autograd.grad(torch.stack(losses).mean(), list(weights.values()))
    expected = {f"network.{name}": gradient for name, gradient in zip(weights, gradients, strict=True)}
    naive_maml.assert_gradients(learner.batch_gradient(episode).gradients, expected)


@pytest.mark.parametrize(("kind", "moves"), [(ANIL, "network.head."), (BOIL, "network.backbone.")])
def test_the_inner_loop_moves_its_part_alone(episode: Episode, kind: type[MAML], moves: str) -> None:
    learner = make(kind, "loop", eval_inner_steps=2).eval()
    *_, state = learner.adapt(learner.variables(3), episode.task, 2)
    assert set(state) == {name for name, _ in learner.named_parameters() if name.startswith(moves)}
    scores = score_tasks(learner, episode, both_protocols=True)
    assert {"accuracy_after_0", "accuracy_after_2", "accuracy_inductive"} <= scores.keys()


@pytest.mark.parametrize("kind", [ANIL, BOIL])
def test_learn2learn_would_move_everything_and_is_not_used(episode: Episode, kind: type[MAML]) -> None:
    by_loop, asked = make(kind, "loop", inner_steps=2), make(kind, "learn2learn", inner_steps=2)
    expected = by_loop.batch_gradient(episode).gradients
    naive_maml.assert_gradients(asked.batch_gradient(episode).gradients, expected, 1e-12)
