"""What classifiers compute, by hand; that they are inductive is in the contract of every learner."""

import pytest
import torch
from torch import Tensor, nn

from modules import MAML, Learner, ProtoNet, Reptile
from modules.functional.tasks.shared_weights import can_share_a_batch
from modules.learner.classifier import Classifier
from tests.every_learner import N_WAY, make_small, support_and_queries
from tests.learnable_images import TwoBlocks


def test_maml_on_unequal_shots_and_fewer_classes_is_gradient_descent_by_hand() -> None:
    torch.manual_seed(0)
    learner = MAML(5, TwoBlocks(), inner_lr=0.1, inner_steps=2).double().eval()
    support, queries = support_and_queries()
    weights = {name: value.detach().clone().requires_grad_() for name, value in learner.network.named_parameters()}
    for _ in range(2):
        logits = torch.func.functional_call(learner.network, weights, support.x[0])[:, :N_WAY]  # (S, n_way)
        loss = -logits.log_softmax(1)[torch.arange(6), support.y[0]].mean()
        gradients = torch.autograd.grad(loss, list(weights.values()))
        steps = zip(weights.items(), gradients, strict=True)
        weights = {name: (value - 0.1 * gradient).detach().requires_grad_() for (name, value), gradient in steps}
    expected = []
    for query in queries[0]:
        batch = torch.cat([support.x[0], query.unsqueeze(0)])
        expected.append(torch.func.functional_call(learner.network, weights, batch)[-1, :N_WAY].softmax(0))
    answers = Classifier(learner, support)(queries)
    assert answers.shape == (1, 12, N_WAY)
    torch.testing.assert_close(answers[0], torch.stack(expected).float())


@pytest.mark.parametrize("kind", [MAML, Reptile])
def test_an_output_that_no_class_has_keeps_its_weights(kind: type[Learner]) -> None:
    learner = kind(n_way=5, backbone=TwoBlocks()).double().eval()  # type: ignore[call-arg]
    support, _ = support_and_queries()
    state = Classifier(learner, support).state
    moved = (state["network.head.weight"][0] - learner.state_dict()["network.head.weight"]).abs().sum(1) > 0
    assert moved.tolist() == [True, True, True, False, False]


def test_protonet_on_unequal_shots_is_the_distance_to_the_means() -> None:
    learner = make_small(ProtoNet, running_stats=True)
    support, queries = support_and_queries()
    with torch.no_grad():
        embedded, asked = learner.network(support.x[0]), learner.network(queries[0])
    means = [embedded[:3].mean(0), embedded[3], embedded[4:].mean(0)]
    expected = torch.stack([-(asked - mean).square().sum(1) for mean in means], dim=1).softmax(1)
    torch.testing.assert_close(Classifier(learner, support)(queries)[0], expected.float())


def test_a_temperature_divides_the_logits() -> None:
    learner = make_small(ProtoNet, running_stats=True)
    support, queries = support_and_queries()
    cold, warm = (Classifier(learner, support, temperature) for temperature in (1.0, 4.0))
    torch.testing.assert_close(warm.logits(queries), cold.logits(queries) / 4)
    assert warm(queries).amax() < cold(queries).amax()


@pytest.mark.parametrize("kind", [MAML, Reptile])
def test_more_classes_than_outputs_are_refused(kind: type[Learner]) -> None:
    support, _ = support_and_queries()
    with pytest.raises(ValueError, match=r"with 2 outputs, but there are 3 classes: train with --data.n_way 3"):
        Classifier(kind(n_way=2, backbone=TwoBlocks()).double(), support)  # type: ignore[call-arg]


class _LooksAcross(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


def test_a_network_that_looks_across_its_batch_in_another_way_goes_query_by_query() -> None:
    learner = make_small(MAML, running_stats=False)
    support, queries = support_and_queries()
    assert can_share_a_batch(learner.network, queries.shape[2:])
    backbone = learner.network.backbone
    backbone.layers.append(_LooksAcross())  # type: ignore[operator, union-attr]
    fresh = MAML(N_WAY, backbone).double().eval()  # type: ignore[arg-type]
    assert not can_share_a_batch(fresh.network, queries.shape[2:])
    classifier = Classifier(fresh, support)
    torch.testing.assert_close(classifier.logits(queries)[:, 3:4], classifier.logits(queries[:, 3:4]))
