"""ProtoNet against naive loops and a plain nn.BatchNorm2d."""

import copy

import pytest
import torch
from torch import Tensor, nn

from datamodules.episode import Task
from datamodules.settings import Evaluation
from modules import ProtoNet
from tests.learnable_images import TwoBlocks, make_data, make_episode
from tests.training_runs import make_trainer


def make_protonet(running_stats: bool = True) -> ProtoNet:
    """With running statistics of forty batches, not those it begins with."""
    torch.manual_seed(0)
    learner = ProtoNet(TwoBlocks(running_stats)).double()
    for _ in range(40):
        learner.network(make_episode(1).task.x[0])
    return learner


def naive_logits(support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """Minus the squared distances of one task's embedded queries, (Q, D), to its class means: (Q, n_way)."""
    rows = []
    for query in queries:
        row = []
        for label in range(int(labels.max()) + 1):
            members = [embedding for embedding, its in zip(support, labels, strict=True) if its == label]
            row.append(-((query - sum(members) / len(members)) ** 2).sum())
        rows.append(torch.stack(row))
    return torch.stack(rows)


LABELS = torch.tensor([[0, 0, 1, 1, 2, 2], [2, 0, 1, 2, 2, 2], [1, 1, 0, 2, 0, 1]])  # equal and unequal shots


def test_logits_are_a_naive_double_loop_also_with_unequal_shots() -> None:
    learner, episode = make_protonet().eval(), make_episode(3)
    (prototypes,) = learner.adapt(learner.variables(3), Task.of(episode.task.x, LABELS, 3), 0)
    logits = learner.predict(learner.variables(3), prototypes, episode.query_x)
    assert logits.std() > 0.1
    for t in range(3):
        support, queries = learner.network(episode.task.x[t]), learner.network(episode.query_x[t])
        torch.testing.assert_close(logits[t], naive_logits(support, LABELS[t], queries))


def test_training_embeds_support_and_query_as_one_batch() -> None:
    learner, episode = make_protonet(), make_episode(3)
    losses, logits = learner.query_loss(learner.variables(3), episode)
    for t in range(3):
        network = copy.deepcopy(learner.network).train()
        embeddings = network(torch.cat([episode.task.x[t], episode.query_x[t]]))
        expected = naive_logits(embeddings[:6], episode.task.y[t], embeddings[6:])
        torch.testing.assert_close(logits[t], expected)
        torch.testing.assert_close(losses[t], nn.functional.cross_entropy(expected, episode.query_y[t]))


def test_one_outer_step_leaves_the_tasks_mean_running_statistics() -> None:
    learner, episode = make_protonet(), make_episode(8)
    norms = []
    for support_x, query_x in zip(episode.task.x, episode.query_x, strict=True):
        network = copy.deepcopy(learner.network).train()
        network(torch.cat([support_x, query_x]))
        norms.append([layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)])
    make_trainer(precision="64-true", max_steps=1).fit(learner, datamodule=make_data())
    ours = [layer for layer in learner.network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer, *tasks in zip(ours, *norms, strict=True):
        for name in ("running_mean", "running_var"):
            mean = torch.stack([getattr(task, name) for task in tasks]).mean(0)
            torch.testing.assert_close(getattr(layer, name), mean)
        assert layer.num_batches_tracked == 41


def test_it_trains_and_tests_on_tasks_of_different_sizes() -> None:
    held_out = Evaluation(n_way=3, k_shot=2, n_query=1, n_val_tasks=4, n_test_tasks=10, batch_size=4)
    learner, data = make_protonet(), make_data(n_way=7, k_shot=1, n_query=3, evaluation=held_out)
    trainer = make_trainer(precision="64-true", max_steps=20, val_check_interval=20)
    trainer.fit(learner, datamodule=data)
    (scores,) = trainer.test(learner, datamodule=data, verbose=False)
    assert scores["test/accuracy"] > 0.6
    assert {"n_way": 3, "train_n_way": 7, "k_shot": 2, "train_k_shot": 1}.items() <= data.protocol().items()


@pytest.mark.parametrize("running_stats", [True, False])
def test_a_prediction_does_not_change_with_the_other_queries(running_stats: bool) -> None:
    learner, episode = make_protonet(running_stats), make_episode(3)
    classifier = learner.classifier(episode.task)
    together = classifier(episode.query_x)
    one_by_one = torch.cat([classifier(query) for query in episode.query_x.split(1, dim=1)], dim=1)
    torch.testing.assert_close(together, one_by_one)
    assert learner.sees_other_queries is not running_stats
    if running_stats:
        (prototypes,) = learner.adapt(learner.variables(3), episode.task, 0)
        scored = learner.predict(learner.variables(3), prototypes, episode.query_x)
        torch.testing.assert_close(scored.softmax(-1).float(), one_by_one)


def test_cosine_logits_are_scaled_cosines() -> None:
    learner, episode = ProtoNet(TwoBlocks(running_stats=True), distance="cosine").double().eval(), make_episode(2)
    (prototypes,) = learner.adapt(learner.variables(2), episode.task, 0)
    logits = learner.predict(learner.variables(2), prototypes, episode.query_x)
    for t in range(2):
        for q, query in enumerate(learner.network(episode.query_x[t])):
            for n, prototype in enumerate(prototypes[t]):
                expected = 10 * (query * prototype).sum() / (query.norm() * prototype.norm())
                torch.testing.assert_close(logits[t, q, n], expected)


def test_only_cosines_have_a_scale_and_training_moves_it() -> None:
    assert "scale" not in ProtoNet(TwoBlocks(running_stats=True)).state_dict()
    learner = ProtoNet(TwoBlocks(running_stats=True), distance="cosine")
    make_trainer(max_steps=5).fit(learner, datamodule=make_data())
    assert float(learner.scale) != 10
