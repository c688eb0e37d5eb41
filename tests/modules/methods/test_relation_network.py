"""Relation networks against a loop over all pairs, and against prototypes where the comparison is a distance."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from modules import Conv4, ProtoNet, RelationEmbedding, RelationNetwork
from tests.every_learner import support_and_queries
from tests.learnable_images import TwoBlocks, make_data, make_episode
from tests.training_runs import make_trainer


class Maps(TwoBlocks):
    """Two blocks whose features are maps of 2x2."""

    def __init__(self, running_stats: bool = False) -> None:
        super().__init__(running_stats)
        self.map_shape = (4, 2, 2)


def make(shots: Literal["mean", "sum"] = "mean", running_stats: bool = False) -> RelationNetwork:
    torch.manual_seed(0)
    return RelationNetwork(Maps(running_stats), shots=shots, k_shot=2)


@pytest.mark.parametrize("shots", ["mean", "sum"])
@pytest.mark.parametrize("training", [False, True])
def test_scores_are_those_of_a_loop_over_pairs(shots: Literal["mean", "sum"], training: bool) -> None:
    learner = make(shots).double().train(training)
    episode = make_episode(3, k_shot=2)
    params = learner.variables(3)
    (state,) = learner.adapt(params, episode.task, 0)
    logits = learner.predict(params, state, episode.query_x)
    for t in range(3):
        support, queries = learner.network(episode.task.x[t]), learner.network(episode.query_x[t])
        pairs = []
        for query in queries:
            for label in range(3):
                members = support[episode.task.y[t] == label]
                of_class = members.sum(0) if shots == "sum" else members.mean(0)
                pairs.append(torch.cat([of_class.view(4, 2, 2), query.view(4, 2, 2)]))
        expected = learner.relation(torch.stack(pairs)).view(-1, 3)
        torch.testing.assert_close(logits[t], expected)


def test_a_sum_has_the_size_of_training_whatever_the_number_of_images() -> None:
    learner, (task, queries) = make("sum").double().eval(), support_and_queries()
    (state,) = learner.adapt(learner.variables(1), task, 0)  # classes of 3, 1 and 2 images
    maps = learner.network(task.x[0])
    for label in range(3):
        torch.testing.assert_close(state[0, label], 2 * maps[task.y[0] == label].mean(0))
    assert learner.predict(learner.variables(1), state, queries).shape == (1, 12, 3)


def test_the_result_calls_itself_transductive_only_where_queries_see_each_other() -> None:
    assert make().protocol()["transductive"]
    assert not make(running_stats=True).protocol()["transductive"]


def test_with_a_distance_for_a_relation_it_is_a_prototypical_network() -> None:
    class Distance(nn.Module):
        def forward(self, pairs: Tensor) -> Tensor:
            one, other = pairs.chunk(2, dim=1)
            return -(one - other).square().sum((1, 2, 3)).unsqueeze(1)

    learner, episode = make().double().eval(), make_episode(3, k_shot=1)
    learner.relation = Distance()  # type: ignore[assignment]
    protonet = ProtoNet(learner.network).double().eval()  # type: ignore[arg-type]
    for ours, theirs in zip(*(_answers(each, episode) for each in (learner, protonet)), strict=True):
        torch.testing.assert_close(ours, theirs)


def _answers(learner, episode):
    params = learner.variables(3)
    *_, state = learner.adapt(params, episode.task, 0)
    return learner.predict(params, state, episode.query_x)


def test_the_loss_is_the_squared_error_of_scores() -> None:
    learner, episode = make().double(), make_episode(2)
    losses, logits = learner.query_loss(learner.variables(2), episode)
    for t in range(2):
        errors = [
            (torch.sigmoid(logits[t, q, c]) - float(episode.query_y[t, q] == c)) ** 2
            for q in range(logits.shape[1])
            for c in range(3)
        ]
        torch.testing.assert_close(losses[t], torch.stack(errors).mean())


def test_its_own_loss_has_a_name_of_its_own() -> None:
    trainer, data = make_trainer(max_steps=1, log_every_n_steps=1), make_data()
    learner = make()
    trainer.fit(learner, datamodule=data)
    metrics = trainer.callback_metrics
    assert {"train/relation_mse", "train/loss", "train/accuracy"} <= metrics.keys()
    assert 0 < float(metrics["train/relation_mse"]) < 1
    # Of untrained scores: the cross-entropy of three equal logits.
    assert float(metrics["train/loss"]) == pytest.approx(1.0986, abs=0.01)


def test_the_default_networks_have_as_many_weights_as_the_papers_without_biases() -> None:
    learner = RelationNetwork()
    biases = 64 * 4, 64 * 2  # of convolutions before a batch normalisation
    assert sum(p.numel() for p in learner.network.parameters()) == 111_936 - biases[0]
    assert sum(p.numel() for p in learner.relation.parameters()) == 111_505 - biases[1]
    large = RelationNetwork(RelationEmbedding(in_channels=3, image_size=84))
    assert large.map_shape == (64, 19, 19)
    assert sum(p.numel() for p in large.network.parameters()) == 113_088 - biases[0]
    assert sum(p.numel() for p in large.relation.parameters()) == 115_601 - biases[1]


def test_other_backbones_of_maps_can_be_compared_and_vectors_are_refused() -> None:
    assert RelationNetwork(Conv4(reduce="flatten")).relation(torch.rand(2, 128, 2, 2)).shape == (2, 1)
    with pytest.raises(ValueError, match=r"compares feature maps, and Conv4 gives none: set model\.backbone"):
        RelationNetwork(Conv4())
    with pytest.raises(ValueError, match=r"shots must be mean or sum, got 'max'"):
        RelationNetwork(shots="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"image_size = 9 is too small"):
        RelationEmbedding(image_size=9)


def test_inductive_answers_look_at_no_other_query() -> None:
    from tests.scored_tasks import score_tasks

    learner = make().double().eval()
    assert learner.sees_other_queries
    scores = score_tasks(learner, make_episode(4), both_protocols=True)
    assert {"accuracy_transductive", "accuracy_inductive"} <= scores.keys()
    assert not make(running_stats=True).sees_other_queries
