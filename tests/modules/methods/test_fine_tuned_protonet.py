"""FineTunedProtoNet against a plain loop over tasks with torch's own Adam on a copy of the network."""

import copy
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from datamodules.episode import Task
from datamodules.images.augmentation import Augmentation, augment
from modules import FineTunedProtoNet, Learner, OuterLoop, ProtoNet
from tests.learnable_images import TwoBlocks, make_data, make_episode
from tests.scored_tasks import score_tasks
from tests.training_runs import make_trainer, same, state_of

LR, STEPS = 0.01, 4
LABELS = torch.tensor([[0, 0, 1, 1, 2, 2], [2, 0, 1, 2, 2, 2], [1, 1, 0, 2, 0, 1]])  # equal and unequal shots
AUGMENTATION = Augmentation(crop=0.5, flip=True, rotation=20, jitter=0.4)


def make_learner(kind: type[Learner] = FineTunedProtoNet, strategy: Any = "auto", **changes: Any) -> Learner:
    """With running statistics of forty batches, not those it begins with."""
    torch.manual_seed(0)
    if kind is FineTunedProtoNet:
        changes = {"eval_inner_lr": LR, "eval_inner_steps": STEPS, "support_augmentation": AUGMENTATION} | changes
    if issubclass(kind, ProtoNet):
        changes = {"distance": "euclidean"} | changes
    outer = OuterLoop(task_strategy=strategy, schedule="step")
    learner = kind(TwoBlocks(running_stats=True), outer=outer, **changes).double()
    for _ in range(40):
        learner.network(make_episode(1).task.x[0])
    return learner


def logits_of(
    network: nn.Module, support: Tensor, labels: Tensor, queries: Tensor, distance: str = "euclidean"
) -> Tensor:
    """Minus the squared distances to the class means of one task, or ten times the cosines: (Q, n_way)."""
    embedded = network(support)
    means = torch.stack([embedded[labels == label].mean(0) for label in range(int(labels.max()) + 1)])
    if distance == "cosine":
        return 10 * F.cosine_similarity(network(queries).unsqueeze(1), means.unsqueeze(0), dim=-1)
    return -torch.cdist(network(queries), means, compute_mode="donot_use_mm_for_euclid_dist").square()


def fine_tuned(
    network: nn.Module, support: Tensor, labels: Tensor, views: list[Tensor], distance: str = "euclidean"
) -> list[nn.Module]:
    """Copies of the network after 0, 1, ... steps on one task."""
    network = copy.deepcopy(network).eval()
    networks = [copy.deepcopy(network)]
    optimizer = Adam([parameter for parameter in network.parameters() if parameter.requires_grad], LR)
    for view in views:
        optimizer.zero_grad()
        F.cross_entropy(logits_of(network, support, labels, view, distance), labels).backward()
        optimizer.step()
        networks.append(copy.deepcopy(network))
    return networks


@pytest.mark.parametrize("strategy", ["loop", "vmap", "batched"])
@pytest.mark.parametrize("frozen_layer", [False, True])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_every_state_is_a_plain_loops(strategy: str, frozen_layer: bool, distance: str) -> None:
    learner, episode = make_learner(strategy=strategy, distance=distance).eval(), make_episode(3)
    next(learner.network.parameters()).requires_grad = not frozen_layer
    params, noise = learner.variables(3), learner.draw_noise(episode.task_id, 6, STEPS)
    assert noise.shape == (3, STEPS, 6, 8)
    task = Task.of(episode.task.x, LABELS, 3)._replace(noise=noise)
    with torch.no_grad():  # as in evaluation
        states = list(learner.adapt(params, task, STEPS))
        logits = [learner.predict(params, state, episode.query_x) for state in states]
    assert len(states) == STEPS + 1
    for t in range(3):
        views = [augment(task.x[t, None], noise[t, None, step], AUGMENTATION)[0] for step in range(STEPS)]
        networks = fine_tuned(learner.network, task.x[t], LABELS[t], views, distance)
        for network, state, ours in zip(networks, states, logits, strict=True):
            expected = logits_of(network, task.x[t], LABELS[t], episode.query_x[t], distance).detach()
            torch.testing.assert_close(ours[t], expected, rtol=1e-6, atol=1e-8)
            for name, value in network.named_parameters():
                if value.requires_grad:
                    torch.testing.assert_close(state.fast_params[f"network.{name}"][t], value.detach())
    assert (logits[0] - logits[-1]).abs().max() > 0.05
    assert ("network.layers.0.weight" in states[-1].fast_params) is not frozen_layer


def test_without_augmentation_the_support_set_itself_is_classified() -> None:
    learner, episode = make_learner(support_augmentation=Augmentation()).eval(), make_episode(1)
    noise = learner.draw_noise(episode.task_id, 6, STEPS)
    assert noise.shape == (1, 0)
    *_, state = learner.adapt(learner.variables(1), episode.task, STEPS)
    x, y = episode.task.x[0], episode.task.y[0]
    network = fine_tuned(learner.network, x, y, [x] * STEPS)[-1]
    ours = learner.predict(learner.variables(1), state, episode.query_x)[0]
    torch.testing.assert_close(ours, logits_of(network, x, y, episode.query_x[0]))


def test_a_class_is_changed_alike_in_a_step_and_otherwise_in_the_next() -> None:
    augmentation = Augmentation(crop=0.5, per="class")
    learner = cast(FineTunedProtoNet, make_learner(support_augmentation=augmentation))
    image = make_episode(1).task.x[:, :1].expand(3, 6, 1, 8, 8)
    task = Task.of(image, LABELS, 3)._replace(noise=learner.draw_noise(torch.arange(3), 6, 2))
    assert task.noise.shape == (3, 2, 6, 8)
    first, second = (learner._changed(task, step) for step in (0, 1))
    for views, labels in zip(first, LABELS, strict=True):
        alike = (views[:, None] == views[None]).flatten(2).all(2)  # (S, S)
        assert torch.equal(alike, labels[:, None] == labels[None])
    assert not any(torch.equal(a, b) for a, b in zip(first.flatten(0, 1), second.flatten(0, 1), strict=True))


def test_training_is_protonets() -> None:
    states = []
    for kind in (ProtoNet, FineTunedProtoNet):
        learner = make_learner(kind)
        make_trainer(precision="64-true", max_steps=3).fit(learner, datamodule=make_data())
        states.append(state_of(learner))
    assert same(*states)


def test_without_steps_it_is_a_protonet() -> None:
    ours, protonet, episode = make_learner(eval_inner_steps=0).eval(), make_learner(ProtoNet).eval(), make_episode(3)
    scores, expected = score_tasks(ours, episode, True), score_tasks(protonet, episode, True)
    assert scores.keys() == expected.keys()
    assert all(torch.equal(scores[name], expected[name]) for name in scores)


def test_a_task_is_scored_alike_alone_and_with_others() -> None:
    learner, episode = make_learner().eval(), make_episode(3)
    before = state_of(learner)
    together = score_tasks(learner, episode, both_protocols=False)["loss"]
    alone = [score_tasks(learner, episode.tasks(t, t + 1), both_protocols=False)["loss"] for t in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert same(state_of(learner), before)
    others = episode._replace(task_id=episode.task_id + 9)  # the same images, augmented otherwise
    assert not torch.equal(score_tasks(learner, others, both_protocols=False)["loss"], together)


def test_a_test_reports_the_adaptation_curve() -> None:
    learner, trainer, data = make_learner(), make_trainer(precision="64-true"), make_data(n_way=5, k_shot=1)
    (scores,) = trainer.test(learner, datamodule=data, verbose=False)
    assert {f"test/accuracy_after_{step}" for step in range(STEPS + 1)} <= scores.keys()
    assert scores["test/accuracy"] == scores[f"test/accuracy_after_{STEPS}"]
    protocol = learner.protocol()
    assert (protocol["inner_steps"], protocol["inner_lr"]) == (STEPS, LR)
    assert protocol["support_augmentation"] == "crop 0.5, flip, rotation 20, jitter 0.4, per image"


def test_a_users_classifier_is_fine_tuned_to_any_number_of_classes() -> None:
    learner, episode = make_learner(), make_episode(1, n_way=7)
    noise = learner.draw_noise(torch.zeros(1, dtype=torch.int64), 14, STEPS)
    probabilities = learner.classifier(episode.task)(episode.query_x)
    *_, state = learner.adapt(learner.variables(1), episode.task._replace(noise=noise), STEPS)
    expected = learner.predict(learner.variables(1), state, episode.query_x).float().softmax(-1)
    torch.testing.assert_close(probabilities, expected)


def test_what_makes_no_sense_is_refused() -> None:
    frozen = TwoBlocks(running_stats=True)
    frozen.requires_grad_(False)
    with pytest.raises(ValueError, match=r"nothing to fine-tune, as its backbone is frozen: give it a backbone"):
        FineTunedProtoNet(frozen)
    with pytest.raises(ValueError, match=r"eval_inner_steps must be 0 \(a ProtoNet\) or more, got -1."):
        FineTunedProtoNet(eval_inner_steps=-1)
    with pytest.raises(ValueError, match="eval_inner_lr must be positive, got 0"):
        FineTunedProtoNet(eval_inner_lr=0.0)
