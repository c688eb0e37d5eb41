"""MAML against learn2learn's own, in a plain loop over tasks, and against numerical derivatives."""

import copy
import itertools

import pytest
import torch
from learn2learn.algorithms import MAML as Reference  # noqa: N811
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import functional_call
from torch.nn import functional as F

from datamodules.episode import Episode
from modules import MAML, OuterLoop
from modules.functional.tasks.networks import names_of_norms
from tests.learnable_images import TwoBlocks, arrays, make_episode
from tests.scored_tasks import score_tasks

STRATEGIES = ["batched", "vmap", "loop", "learn2learn"]


@pytest.fixture
def episode() -> Episode:
    return make_episode(3)


def make_maml(strategy: str = "vmap", activation: type[nn.Module] = nn.ReLU, filters: int = 4, **changes) -> MAML:
    torch.manual_seed(0)
    backbone = TwoBlocks(activation=activation, filters=filters)
    return MAML(3, backbone, 0.3, outer=OuterLoop(task_strategy=strategy), **changes).double()  # type: ignore[arg-type]


def reference_losses(learner: MAML, network: nn.Module, episode: Episode, lr: float, steps: int) -> Tensor:
    """Each task's query loss after learn2learn's adaptation, (T,), differentiable by the network's parameters."""
    reference, losses = Reference(network, lr=lr, first_order=learner.first_order), []
    for support_x, support_y, query_x, query_y in zip(*arrays(episode), strict=True):
        clone = reference.clone()
        for _ in range(steps):
            clone.adapt(F.cross_entropy(clone(support_x), support_y))
        losses.append(F.cross_entropy(clone(query_x), query_y))
    return torch.stack(losses)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_the_outer_gradient_is_learn2learns(episode: Episode, strategy: str, first_order: bool, steps: int) -> None:
    learner = make_maml(strategy, inner_steps=steps, first_order=first_order)
    network = copy.deepcopy(learner.network)
    reference_losses(learner, network, episode, 0.3, steps).mean().backward()
    ours = learner.batch_gradient(episode).gradients
    assert len(ours) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        difference = (ours[f"network.{name}"] - parameter.grad).norm() / parameter.grad.norm()
        assert difference < 1e-8, name


def plain_losses(network: nn.Module, episode: Episode, lr: float, steps: int, still: tuple[str, ...]) -> Tensor:
    """Each task's query loss after plain gradient steps of all parameters but `still`, (T,)."""
    losses = []
    for support_x, support_y, query_x, query_y in zip(*arrays(episode), strict=True):
        params: dict[str, Tensor] = dict(network.named_parameters())
        moved = [name for name in params if name not in still]
        for _ in range(steps):
            loss = F.cross_entropy(functional_call(network, params, (support_x,)), support_y)
            gradients = torch.autograd.grad(loss, [params[name] for name in moved], create_graph=True)
            params |= {name: params[name] - lr * gradient for name, gradient in zip(moved, gradients, strict=True)}
        losses.append(F.cross_entropy(functional_call(network, params, (query_x,)), query_y))
    return torch.stack(losses)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("steps", [1, 3])
def test_normalisation_can_be_left_to_the_outer_loop(episode: Episode, strategy: str, steps: int) -> None:
    learner = make_maml(strategy, inner_steps=steps, adapt_norm=False)
    network = copy.deepcopy(learner.network)
    still = tuple(f"backbone.layers.{layer}.{leaf}" for layer in (1, 4) for leaf in ("weight", "bias"))
    plain_losses(network, episode, 0.3, steps, still).mean().backward()
    ours = learner.batch_gradient(episode).gradients
    for name, parameter in network.named_parameters():  # those that stay in a task learn in the outer loop
        assert parameter.grad is not None
        assert (ours[f"network.{name}"] - parameter.grad).norm() / parameter.grad.norm() < 1e-8, name


def test_the_names_of_normalisation_layers() -> None:
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), nn.LayerNorm(2, elementwise_affine=False)]
    assert names_of_norms(nn.Sequential(*layers), "a.") == {"a.1.weight", "a.1.bias", "a.2.weight", "a.2.bias"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_frozen_parameters_stay_and_the_rest_learns_as_learn2learns_does(episode: Episode, strategy: str) -> None:
    learner = make_maml(strategy, inner_steps=2)
    frozen = [p for name, p in learner.network.named_parameters() if not name.startswith("head")]
    for parameter in frozen:
        parameter.requires_grad = False
    features = torch.stack([learner.network.backbone(x) for x in episode.task.x])  # type: ignore[operator]
    queries = torch.stack([learner.network.backbone(x) for x in episode.query_x])  # type: ignore[operator]
    head = copy.deepcopy(learner.network.head)
    on_features = episode._replace(task=episode.task._replace(x=features), query_x=queries)
    reference_losses(learner, head, on_features, 0.3, 2).mean().backward()  # type: ignore[arg-type]
    ours = learner.batch_gradient(episode).gradients
    assert ours.keys() == {"network.head.weight", "network.head.bias"}
    for name, parameter in head.named_parameters():  # type: ignore[union-attr]
        assert parameter.grad is not None
        assert (ours[f"network.head.{name}"] - parameter.grad).norm() / parameter.grad.norm() < 1e-8


def differentiable_query_loss(learner: MAML, episode: Episode, first_order: bool) -> bool:
    """Whether the query loss's gradient by the meta-parameters is its numerical derivative."""
    learner.first_order = first_order
    names = [name for name, _ in learner.named_parameters()]

    def query_losses(*values: Tensor) -> Tensor:
        return learner.query_loss(dict(zip(names, values, strict=True)), episode)[0]

    values = [value.detach().requires_grad_() for value in learner.parameters()]
    return gradcheck(query_losses, values, raise_exception=False)


@pytest.mark.parametrize("strategy", ["batched", "vmap", "loop"])
def test_the_second_order_gradient_is_the_numerical_one_and_the_first_order_is_not(strategy: str) -> None:
    learner = make_maml(strategy, nn.Tanh, filters=2, inner_steps=2)
    episode = make_episode(2, k_shot=1, n_query=1)
    assert differentiable_query_loss(learner, episode, first_order=False)
    assert not differentiable_query_loss(learner, episode, first_order=True)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_evaluation_takes_its_own_steps_and_step_size(episode: Episode, strategy: str) -> None:
    learner = make_maml(strategy, inner_steps=1, eval_inner_lr=0.1, eval_inner_steps=4).eval()
    scores = score_tasks(learner, episode, both_protocols=False)
    torch.testing.assert_close(scores["loss"], reference_losses(learner, learner.network, episode, 0.1, 4))
    assert [name for name in scores if "after" in name] == [f"accuracy_after_{step}" for step in (0, 1, 2, 3, 4)]


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_adapt_yields_the_state_before_and_after_every_step(episode: Episode, strategy: str, steps: int) -> None:
    learner = make_maml(strategy)
    states = list(learner.adapt(learner.variables(3), episode.task, steps))
    assert len(states) == steps + 1
    for name, value in learner.named_parameters():
        assert torch.equal(states[0][name], value.expand(3, *value.shape))
    for before, after in itertools.pairwise(states):
        assert not torch.equal(before["network.head.weight"], after["network.head.weight"])
