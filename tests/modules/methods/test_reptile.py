"""Reptile against Algorithm 2 of its paper, written as a plain loop with torch's own optimisers."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

from datamodules.episode import Episode
from modules import OuterLoop, Reptile
from modules.methods.reptile import SecondMoments, adam_from
from tests.learnable_images import TwoBlocks, make_data, make_episode
from tests.scored_tasks import score_tasks
from tests.training_runs import largest_difference, make_trainer, state_of

LR, META_STEP_SIZE, N_STEPS = 0.02, 0.7, 4
OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "adam": lambda network: Adam(network.parameters(), LR, betas=(0.0, 0.999)),
    "sgd": lambda network: SGD(network.parameters(), LR),
}


def make_reptile(inner_optimizer: str = "adam", running_stats: bool = False, **changes) -> Reptile:
    """Whose inner optimiser starts empty in every task unless told otherwise."""
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "carry_moments": False,
        "inner_steps": 4,
        "inner_batch_size": 4,
        "eval_inner_steps": 5,
        "eval_inner_batch_size": 3,
    } | changes
    outer = OuterLoop(optimizer="sgd", lr=META_STEP_SIZE, schedule="linear")
    return Reptile(3, TwoBlocks(running_stats), inner_optimizer, LR, outer=outer, **arguments).double()  # type: ignore[arg-type]


def adapted(learner: Reptile, network: nn.Module, episode: Episode, steps: int, optimizer: str) -> list[nn.Module]:
    """A copy of the network for each task, trained on the task's mini-batches."""
    noise, networks = learner.draw_noise(episode.task_id, episode.task.x.shape[1], steps), []
    for x, y, mini_batches in zip(episode.task.x, episode.task.y, noise, strict=True):
        copied = copy.deepcopy(network)
        inner = OPTIMIZERS[optimizer](copied)
        for mini_batch in mini_batches:
            inner.zero_grad()
            F.cross_entropy(copied(x[mini_batch]), y[mini_batch]).backward()
            inner.step()
        networks.append(copied)
    return networks


@torch.no_grad()
def step_towards(network: nn.Module, networks: list[nn.Module], step_size: float) -> None:
    """phi <- phi + epsilon * mean(phi~ - phi); running statistics become the tasks' mean."""
    states = [adapted.state_dict() for adapted in networks]
    for name, parameter in network.named_parameters():
        parameter.lerp_(torch.stack([state[name] for state in states]).mean(0), step_size)
    for name, buffer in network.named_buffers():
        buffer.copy_(torch.stack([state[name].to(torch.float64) for state in states]).mean(0))


@pytest.mark.parametrize("frozen_backbone", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_is_algorithm_2(optimizer: str, frozen_backbone: bool) -> None:
    learner, data = make_reptile(optimizer, running_stats=True), make_data(meta_batch_size=5)
    for parameter in learner.network.backbone.parameters():  # type: ignore[union-attr]
        parameter.requires_grad = not frozen_backbone
    network = copy.deepcopy(learner.network)
    make_trainer(precision="64-true", max_steps=N_STEPS).fit(learner, datamodule=data)
    learner.train()
    for step in range(N_STEPS):
        episode = data.episode("train", torch.arange(5 * step, 5 * step + 5))
        episode = episode._replace(task=episode.task._replace(x=episode.task.x.double()))
        networks = adapted(learner, network, episode, 4, optimizer)
        step_towards(network, networks, META_STEP_SIZE * (1 - step / N_STEPS))
    expected = {f"network.{name}": value for name, value in network.state_dict().items()}
    assert largest_difference(state_of(learner), expected) < 1e-6


def test_the_outer_gradient_points_from_the_adapted_weights() -> None:
    learner, episode = make_reptile(), make_episode(3)
    networks = adapted(learner, learner.network, episode, 4, "adam")
    gradients = learner.batch_gradient(episode).gradients
    for name, parameter in learner.network.named_parameters():
        mean = torch.stack([dict(network.named_parameters())[name].detach() for network in networks]).mean(0)
        torch.testing.assert_close(gradients[f"network.{name}"], parameter.detach() - mean)


class Carried:
    """torch's Adam for each of a batch's tasks, which begins where the batch before has left the mean."""

    def __init__(self, network: nn.Module) -> None:
        self.square = [torch.zeros_like(parameter) for parameter in network.parameters()]
        self.steps = 0
        self.ends: list[list[Tensor]] = []

    def begin(self, network: nn.Module) -> Optimizer:
        optimizer = Adam(network.parameters(), LR, betas=(0.0, 0.999))
        for parameter, square in zip(network.parameters(), self.square, strict=True):
            step = torch.tensor(float(self.steps), dtype=torch.float32)
            zeros = torch.zeros_like(square)
            optimizer.state[parameter] = {"step": step, "exp_avg": zeros, "exp_avg_sq": square.clone()}
        self.ends.append([optimizer.state[parameter]["exp_avg_sq"] for parameter in network.parameters()])
        return optimizer

    def leave(self, steps: int) -> None:
        self.square = [torch.stack(of_tasks).mean(0) for of_tasks in zip(*self.ends, strict=True)]
        self.steps, self.ends = self.steps + steps, []


def test_the_second_moments_go_on_from_task_to_task(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, data = make_reptile(running_stats=True, carry_moments=True), make_data(meta_batch_size=5)
    network, carried = copy.deepcopy(learner.network), Carried(learner.network)
    monkeypatch.setitem(OPTIMIZERS, "carried", carried.begin)
    make_trainer(precision="64-true", max_steps=N_STEPS).fit(learner, datamodule=data)
    learner.train()
    for step in range(N_STEPS):
        episode = data.episode("train", torch.arange(5 * step, 5 * step + 5))
        episode = episode._replace(task=episode.task._replace(x=episode.task.x.double()))
        networks = adapted(learner, network, episode, 4, "carried")
        step_towards(network, networks, META_STEP_SIZE * (1 - step / N_STEPS))
        carried.leave(4)
    expected = {f"network.{name}": value for name, value in network.state_dict().items()}
    state = state_of(learner)
    assert largest_difference({name: state[name] for name in expected}, expected) < 1e-6
    squares = {
        f"carried.network/{n.replace('.', '/')}": v
        for (n, _), v in zip(network.named_parameters(), carried.square, strict=True)
    }
    assert largest_difference({name: state[name] for name in squares}, squares) < 1e-9
    assert state["carried.steps"] == 4 * N_STEPS

    # A test begins every task with them, and leaves them as they are.
    learner.eval()
    episode = make_episode(3)
    carried.ends = []
    networks = adapted(learner, learner.network, episode, 5, "carried")
    losses = score_tasks(learner, episode, both_protocols=False)["loss"]
    torch.testing.assert_close(losses, naive_losses(networks, episode, transductive=False))
    assert largest_difference(state_of(learner), state) == 0


def test_the_second_moments_stay_float32_and_follow_the_gradients_in_half_precision() -> None:
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        weight = {"w": torch.zeros(1, 4, dtype=dtype)}
        moments = SecondMoments({"w": weight["w"][0]}).to(dtype)
        assert moments.w.dtype == torch.float32
        for step in range(3000):
            gradient = torch.full_like(weight["w"], 1.0 if step < 1000 else 0.1)
            copies = {name: value.expand(1, *value.shape).clone() for name, value in moments.named_buffers()}
            update = adam_from(copies, weight, LR, 1, leaves_them=True)
            moved, _ = update(0, torch.zeros(1), weight, {"w": gradient}, {})
            assert moved["w"].dtype == dtype
            for name, value in moments.named_buffers():
                value.copy_(copies[name][0])
        rates[dtype] = float(moments.w[0])  # type: ignore[index]
    assert rates[torch.bfloat16] == pytest.approx(rates[torch.float32], rel=0.02)
    assert rates[torch.float32] < 0.1


def test_what_was_frozen_has_no_moment_to_go_on_from() -> None:
    backbone = TwoBlocks(running_stats=True)
    backbone.freeze()
    learner = Reptile(3, backbone).eval()
    learner.backbone.requires_grad_(True)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"network.backbone.layers.0.weight has no second moment .*carry_moments"):
        score_tasks(learner, make_episode(3), both_protocols=False)


@pytest.mark.parametrize("training", [True, False])
def test_mini_batches_use_every_example_once_before_any_twice(training: bool) -> None:
    learner = make_reptile(inner_batch_size=4, eval_inner_batch_size=5).train(training)
    size = 4 if training else 5
    noise = learner.draw_noise(torch.arange(50), n_support=6, steps=9)
    assert noise.shape == (50, 9, size)
    order = noise.flatten(1)  # (T, steps * B)
    for start in range(0, 9 * size, 6):
        part = order[:, start : start + 6]
        assert all(len(set(row.tolist())) == part.shape[1] for row in part)
    assert set(order.flatten().tolist()) == set(range(6))


def test_mini_batches_differ_from_task_to_task_and_depend_on_the_task_alone() -> None:
    learner = make_reptile()
    noise = learner.draw_noise(torch.arange(20), n_support=12, steps=4)
    assert len({tuple(row.flatten().tolist()) for row in noise}) == 20
    assert torch.equal(learner.draw_noise(torch.tensor([7]), n_support=12, steps=4)[0], noise[7])


def naive_losses(networks: list[nn.Module], episode: Episode, transductive: bool) -> Tensor:
    """Each task's query loss, (T,): its queries in one batch, or each in one batch with the support set."""
    losses = []
    for network, support_x, query_x, query_y in zip(
        networks, episode.task.x, episode.query_x, episode.query_y, strict=True
    ):
        if transductive:
            logits = network(query_x)
        else:
            logits = torch.stack([network(torch.cat([support_x, query[None]]))[-1] for query in query_x])
        losses.append(F.cross_entropy(logits, query_y).detach())
    return torch.stack(losses)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("transductive", [True, False])
def test_evaluation_is_a_plain_loop(optimizer: str, transductive: bool) -> None:
    episode, learner = make_episode(3), make_reptile(optimizer, transductive=transductive).eval()
    networks = adapted(learner, learner.network, episode, 5, optimizer)
    losses = score_tasks(learner, episode, both_protocols=False)["loss"]
    torch.testing.assert_close(losses, naive_losses(networks, episode, transductive))
    assert not torch.allclose(losses, naive_losses(networks, episode, not transductive))


def test_a_test_scores_both_protocols() -> None:
    episode, learner = make_episode(40), make_reptile().eval()
    scores = score_tasks(learner, episode, both_protocols=True)
    learner.transductive = True
    assert torch.equal(scores["accuracy_transductive"], score_tasks(learner, episode, False)["accuracy"])
    assert torch.equal(scores["accuracy_inductive"], scores["accuracy"])
    assert not torch.equal(scores["accuracy_inductive"], scores["accuracy_transductive"])
