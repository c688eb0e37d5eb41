"""LEO against its equations for one task and one example at a time."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

from datamodules.episode import Episode, Task
from modules import LEO, OuterLoop
from modules.learner.classifier import Classifier
from modules.methods.leo import divergence_at, orthogonality_penalty, split_gaussian
from tests.learnable_images import TwoBlocks, make_episode
from tests.modules.methods import naive_maml
from tests.scored_tasks import score_tasks

L = 3
PENALTIES = {"kl_weight": 0.1, "encoder_penalty": 0.2, "l2_penalty": 0.3, "orthogonality_penalty": 0.4}


@pytest.fixture
def episode() -> Episode:
    return make_episode(2)


def make(strategy: str = "loop", **changes: Any) -> LEO:
    torch.manual_seed(0)
    outer = OuterLoop(task_strategy=strategy)  # type: ignore[arg-type]
    arguments: dict[str, Any] = {
        "latent_steps": 2,
        "finetuning_steps": 2,
        "finetuning_lr": 0.2,
        "dropout": 0.0,
    } | changes
    return LEO(TwoBlocks(running_stats=True), L, outer=outer, **arguments).double()


def gaussian(parameters: Tensor, offset: float) -> Normal:
    mean, raw = parameters.chunk(2, -1)
    return Normal(mean, torch.clamp(raw.exp() - (1 - offset), min=1e-10))


def plain_loss(learner: LEO, episode: Episode, noise: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """Algorithm 1 for one task: its query loss, and its outer loss but for what is no task's own."""
    n_way, d, s = 3, learner.feature_dim, episode.task.x.shape[1]
    features = F.normalize(learner.network(torch.cat([episode.task.x[t], episode.query_x[t]])), dim=1)
    support, query, y = features[:s], features[s:], episode.task.y[t]
    codes = [learner.encoder(x) for x in support]
    per_class = []
    for label in range(n_way):
        own = [
            torch.stack([learner.relation(torch.cat([codes[i], other])) for other in codes]).mean(0)
            for i in range(s)
            if y[i] == label
        ]
        per_class.append(torch.stack(own).mean(0))
    distribution = gaussian(torch.stack(per_class), 0.0)
    z = first = distribution.mean + distribution.stddev * noise[t, :n_way, :L]
    divergence = (distribution.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).mean()

    def decoded(z: Tensor, step: int) -> Tensor:
        weights = gaussian(learner.decoder(z), math.sqrt(2 / (n_way + d)))
        return weights.mean + weights.stddev * noise[t, :n_way, L + step * d : L + (step + 1) * d]

    shots = s // n_way  # as the authors have it, each shot has a code and a classifier, and their logits are averaged
    codes_of_shots = [z.clone() for _ in range(shots)]
    rows = [decoded(code, 0) for code in codes_of_shots]

    def gradients(by: list[Tensor]) -> tuple[Tensor, ...]:
        logits = torch.stack([support @ row.T for row in rows]).mean(0)
        return torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), by, create_graph=True)

    for step in range(2):
        steps = gradients(codes_of_shots)
        codes_of_shots = [c - learner.latent_lr * g for c, g in zip(codes_of_shots, steps, strict=True)]
        rows = [decoded(code, step + 1) for code in codes_of_shots]
    for _ in range(2):
        rows = [row - learner.finetuning_lr * g for row, g in zip(rows, gradients(rows), strict=True)]
    z, w = torch.stack(codes_of_shots).mean(0), torch.stack(rows).mean(0)
    loss = F.cross_entropy(query @ w.T, episode.query_y[t])
    penalty = learner.kl_weight * divergence + learner.encoder_penalty * (z.detach() - first).square().mean()
    return loss, loss + penalty


def plain_penalty(learner: LEO) -> Tensor:
    layers: Any = [learner.encoder, learner.relation[0], learner.relation[2], learner.relation[4], learner.decoder]
    l2 = sum(layer.weight.square().sum() / 2 for layer in layers)
    rows = learner.decoder.weight.T  # (L, 2 D), as the authors' Sonnet keeps it
    total = torch.zeros((), dtype=rows.dtype)
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            total = total + ((a @ b) / (a.norm() * b.norm()) - float(i == j)) ** 2
    return learner.l2_penalty * l2 + learner.orthogonality_penalty * total / len(rows) ** 2


@pytest.mark.parametrize("strategy", ["batched", "vmap", "loop"])
def test_the_outer_gradient_is_that_of_the_plain_equations(episode: Episode, strategy: str) -> None:
    learner = make(strategy, **PENALTIES)
    reference = copy.deepcopy(learner)
    noise = learner.draw_noise(episode.task_id, 6, 4)
    assert noise.numel() > 0
    query_losses, losses = zip(*(plain_loss(reference, episode, noise.double(), t) for t in range(2)), strict=True)
    (torch.stack(losses).mean() + plain_penalty(reference)).backward()
    expected = {n: p.grad for n, p in reference.named_parameters() if p.grad is not None and p.grad.norm() > 1e-12}
    gradient = learner.batch_gradient(episode)
    ours = {name: gradient.gradients[name] for name in expected}
    naive_maml.assert_gradients(ours, expected, 1e-5)  # the plain density of a tiny deviation is round-off
    assert {"network.layers.0.weight", "encoder.weight", "latent_lr", "finetuning_lr"} <= expected.keys()
    total = torch.stack(losses).mean() + plain_penalty(reference)
    assert gradient.metrics["regularised_loss"].item() == pytest.approx(total.item())
    assert gradient.metrics["loss"].item() == pytest.approx(torch.stack(query_losses).mean().item())


def test_in_evaluation_nothing_is_drawn_and_the_curve_has_both_spaces(episode: Episode) -> None:
    learner = make().eval()
    assert learner.draw_noise(episode.task_id, 6, 4).shape == (2, 0)
    scores = score_tasks(learner, episode, both_protocols=True)
    assert [name for name in scores if "after" in name] == [f"accuracy_after_{k}" for k in (0, 1, 2, 3, 4)]
    states = list(learner.adapt(learner.variables(2), episode.task, 4))
    assert not torch.equal(states[0].codes, states[2].codes)
    assert torch.equal(states[2].codes, states[4].codes)
    assert not torch.equal(states[2].classifier, states[3].classifier)
    assert not any(value.requires_grad for state in states for value in state)


def test_it_takes_any_number_of_classes_and_unequal_shots(episode: Episode) -> None:
    learner, support = make().eval(), Task.of(episode.task.x[:1, :5], episode.task.y[:1, :5], 3)
    assert support.y.tolist() == [[0, 0, 1, 1, 2]]
    answers = Classifier(learner, support)(episode.query_x[:1])
    assert answers.shape == (1, 6, 3)
    two = Task.of(episode.task.x[:1, :3], episode.task.y[:1, :3], 2)
    assert Classifier(learner, two)(episode.query_x[:1]).shape == (1, 6, 2)


def test_dropout_drops_in_training_alone(episode: Episode) -> None:
    learner = make(dropout=0.5)
    twice = [learner.batch_gradient(episode).metrics["loss"] for _ in range(2)]
    assert twice[0] != twice[1]
    learner.eval()
    scores = [score_tasks(learner, episode, both_protocols=False)["loss"] for _ in range(2)]
    assert torch.equal(*scores)


def test_the_pieces_are_torchs_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    parameters, draw = torch.rand(4, 6, generator=generator), torch.randn(4, 3, generator=generator)
    mean, deviation = split_gaussian(parameters, 0.5)
    sample = mean + deviation * draw
    expected = gaussian(parameters, 0.5)
    assert torch.equal(deviation, expected.stddev)
    ratio = expected.log_prob(sample) - Normal(0.0, 1.0).log_prob(sample)
    torch.testing.assert_close(divergence_at(sample, deviation, draw), ratio, rtol=1e-5, atol=1e-5)
    assert split_gaussian(-torch.ones(1, 2), 0.0)[1].item() == pytest.approx(1e-10)
    assert orthogonality_penalty(torch.eye(3, 5)) == 0
    assert orthogonality_penalty(torch.ones(2, 5)).item() == pytest.approx(0.5)


def test_more_examples_leave_the_codes_of_the_first_classes() -> None:
    learner = make().train()
    few, many = (learner.draw_noise(torch.arange(5), n_support, 2) for n_support in (3, 6))
    assert few.numel() > 0
    assert torch.equal(few, many[:, :3])
