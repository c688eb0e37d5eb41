"""MAML++ against a plain loop with a network for each step, and MAML where all is switched off."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.episode import Episode
from modules import MAML, MAMLPlusPlus, OuterLoop
from modules.functional.tasks.networks import key_of
from modules.methods.maml_plus_plus import step_weights
from tests.learnable_images import TwoBlocks, arrays, make_episode
from tests.modules.methods import naive_maml

STEPS = 3


@pytest.fixture
def episode() -> Episode:
    return make_episode(3)


def make(strategy: str = "loop", running_stats: bool = False, outer_step: int = 0, **changes: Any) -> MAMLPlusPlus:
    """With step sizes, scales and shifts that differ from step to step, at some outer step."""
    torch.manual_seed(0)
    outer = OuterLoop(task_strategy=strategy)  # type: ignore[arg-type]
    arguments: dict[str, Any] = {"inner_lr": 0.3, "inner_steps": STEPS, "multi_step_loss_steps": 10} | changes
    learner = MAMLPlusPlus(3, TwoBlocks(running_stats), outer=outer, **arguments).double()
    with torch.no_grad():
        for name, parameter in learner.named_parameters():
            of_norm = len(learner.norms) > 0 and (".layers.1." in name or ".layers.4." in name)
            if of_norm or name.startswith(("inner_lr", "norms")):
                parameter.add_(torch.rand_like(parameter), alpha=0.1)
    learner._trainer = SimpleNamespace(global_step=outer_step, precision_plugin=None)  # type: ignore[assignment]
    return learner


def plain_losses(learner: MAMLPlusPlus, episode: Episode, weights: list[float]) -> Tensor:
    """Each task's weighted loss, by functions of torch alone, with batch statistics."""
    network, losses = learner.network, []
    moving: dict[str, Tensor] = {
        name: value for name, value in network.named_parameters() if ".layers.1." not in name and ".4." not in name
    }

    def outputs(fast: dict[str, Tensor], step: int, x: Tensor) -> Tensor:
        for conv, norm in ((0, 1), (3, 4)):
            of_steps: Any = learner.norms[f"backbone/layers/{norm}"]
            own: Any = [*of_steps, network.get_submodule(f"backbone.layers.{norm}")][step]
            x = F.conv2d(x, fast[f"backbone.layers.{conv}.weight"], stride=2, padding=1)
            x = F.batch_norm(x, None, None, own.weight, own.bias, training=True).relu()
        return F.linear(x.flatten(1), fast["head.weight"], fast["head.bias"])

    for support_x, support_y, query_x, query_y in zip(*arrays(episode), strict=True):
        fast, total = dict(moving), torch.zeros((), dtype=torch.float64)
        for step in range(STEPS):
            loss = F.cross_entropy(outputs(fast, step, support_x), support_y)
            gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
            rates = [learner.inner_lr[key_of(f"network.{name}")][step] for name in fast]
            fast = {n: v - r * g for (n, v), r, g in zip(fast.items(), rates, gradients, strict=True)}
            total = total + weights[step] * F.cross_entropy(outputs(fast, step, query_x), query_y)
        losses.append(total)
    return torch.stack(losses)


@pytest.mark.parametrize("strategy", ["batched", "vmap", "loop"])
@pytest.mark.parametrize("outer_step", [0, 4, 10])
def test_gradients_are_those_of_a_plain_loop(episode: Episode, strategy: str, outer_step: int) -> None:
    learner = make(strategy, outer_step=outer_step)
    weights = {0: [1 / 3] * 3, 4: [0.2, 0.2, 0.6], 10: [0.0, 0.0, 1.0]}[outer_step]
    losses = plain_losses(learner, episode, weights)
    losses.mean().backward()
    expected = {n: p.grad for n, p in learner.named_parameters() if p.grad is not None and p.grad.norm() > 0}
    gradient = learner.batch_gradient(episode)
    ours = gradient.gradients
    assert {name for name, gradient in ours.items() if gradient.norm() > 0} == expected.keys()
    naive_maml.assert_gradients({name: ours[name] for name in expected}, expected)
    torch.testing.assert_close(gradient.metrics["multi_step_loss"], losses.mean().detach())
    after_all_steps = plain_losses(learner, episode, [0.0, 0.0, 1.0]).mean().detach()
    torch.testing.assert_close(gradient.metrics["loss"], after_all_steps)


def test_scales_of_batch_normalisation_are_learned_by_step_and_in_the_outer_loop_alone() -> None:
    learner = make()
    trained = {name for name, parameter in learner.named_parameters() if parameter.requires_grad}
    assert {"norms.backbone/layers/1.0.weight", "norms.backbone/layers/4.1.bias"} <= trained
    assert "network.backbone.layers.1.weight" in trained  # the last step's
    assert len(trained) == 4 * STEPS + 4 + 4  # scales and shifts, the other weights, and the step sizes of those
    assert not any(".layers.1." in name or ".layers.4." in name for name in learner.fast_params(learner.variables(1)))


@pytest.mark.parametrize("strategy", ["batched", "vmap", "loop"])
def test_with_all_switched_off_it_is_maml(episode: Episode, strategy: str) -> None:
    off = {"learn_inner_lr": False, "per_step_norm": False, "multi_step_loss_steps": 0}
    learner = make(strategy, running_stats=True, **off)
    torch.manual_seed(0)
    reference = MAML(3, TwoBlocks(True), 0.3, STEPS, outer=learner.outer).double()
    ours, expected = learner.batch_gradient(episode), reference.batch_gradient(episode)
    naive_maml.assert_gradients(ours.gradients, expected.gradients, 1e-12)
    for name, buffer in expected.buffers.items():
        torch.testing.assert_close(ours.buffers[name], buffer)


@pytest.mark.parametrize("strategy", ["batched", "vmap", "loop"])
def test_statistics_are_kept_for_each_step(episode: Episode, strategy: str) -> None:
    learner = make(strategy, running_stats=True, multi_step_loss_steps=0)  # so that step 0 sees no query
    after = learner.batch_gradient(episode).buffers
    convolution = learner.network.get_submodule("backbone.layers.0")
    maps = [convolution(x).detach() for x in episode.task.x]
    mean = torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
    variance = torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0)
    means = [after[f"norms.backbone/layers/1.{step}.running_mean"] for step in range(STEPS - 1)]
    torch.testing.assert_close(means[0], 0.1 * mean)
    torch.testing.assert_close(after["norms.backbone/layers/1.0.running_var"], 0.9 + 0.1 * variance)
    assert not torch.allclose(means[1], means[0])
    last = after["network.backbone.layers.1.running_mean"]  # of the support in the last step, then of the queries
    assert not torch.allclose(last, means[1])
    assert last.norm() > 1.5 * means[1].norm()


def test_first_order_comes_first(episode: Episode) -> None:
    def gradient(outer_step: int, **changes: Any) -> Tensor:
        learner = make(outer_step=outer_step, first_order_steps=5, multi_step_loss_steps=0, **changes)
        return learner.batch_gradient(episode).gradients["network.head.weight"]

    whole = make(multi_step_loss_steps=0).batch_gradient(episode).gradients["network.head.weight"]
    assert not torch.allclose(gradient(4), whole)
    assert torch.equal(gradient(5), whole)


@pytest.mark.parametrize(("progress", "expected"), [(0, 0.2), (0.5, 0.1), (0.999, 0.03 / 5), (1, 0.0), (3, 0.0)])
def test_the_weights_of_the_steps_are_the_authors(progress: float, expected: float) -> None:
    weights = step_weights(5, progress)
    assert weights[:4] == pytest.approx([expected] * 4)
    assert sum(weights) == pytest.approx(1)


def test_steps_beyond_those_of_training_are_as_the_last(episode: Episode) -> None:
    learner = make(eval_inner_steps=STEPS + 2).eval()
    states = list(learner.adapt(learner.variables(len(episode.task_id)), episode.task, STEPS + 2))
    scale = "network.backbone.layers.1.weight"
    assert [scale in state for state in states] == [True, True, True, False, False, False]
    assert torch.equal(states[1][scale], states[0][scale])
    assert not torch.equal(states[2][scale], states[1][scale])


def test_a_backbone_that_begins_from_its_checkpoint_has_the_last_steps_normalisation(episode: Episode) -> None:
    learner = make(running_stats=True)
    batch = learner.batch_gradient(episode)
    assert batch.gradients["network.backbone.layers.1.weight"].norm() > 0
    assert batch.buffers["network.backbone.layers.1.running_mean"].norm() > 0


def test_a_frozen_backbone_keeps_its_normalisation() -> None:
    backbone = TwoBlocks(running_stats=True)
    backbone.freeze()
    assert len(MAMLPlusPlus(3, backbone).norms) == 0
