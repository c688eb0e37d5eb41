"""The recorded outer step against the one computed anew, on a GPU."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from datamodules.episode import Episode
from modules import MAML, OuterLoop
from modules.learner.cuda_graph import GraphedGradient
from modules.learner.outer_gradient import OuterGradient
from tests.learnable_images import TwoBlocks, make_data, make_episode
from tests.training_runs import METHODS, largest_difference, make_learner, make_trainer, state_of

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


@needs_gpu
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_training_by_replay_gives_the_same_weights_and_buffers(method: str, precision: str) -> None:
    """Six outer steps, so that a weight that was read once and not again would show."""
    states = []
    for cuda_graph in (False, True):
        learner = make_learner(method, seed=1, cuda_graph=cuda_graph)
        make_trainer(accelerator="gpu", precision=precision).fit(learner, datamodule=make_data())
        states.append(state_of(learner))
    assert largest_difference(*states) < (1e-4 if precision == "32-true" else 0.05)


@needs_gpu
def test_another_shape_of_episode_is_recorded_anew() -> None:
    torch.manual_seed(0)
    learner = MAML(3, TwoBlocks(), 0.1, 2, outer=OuterLoop(cuda_graph=True)).cuda()
    plain = MAML(3, TwoBlocks(), 0.1, 2, outer=dataclasses.replace(learner.outer, cuda_graph=False)).cuda()
    plain.load_state_dict(learner.state_dict())
    for n_tasks in (4, 2, 4):
        episode = make_episode(n_tasks, torch.float32).map(lambda field: field.cuda())
        assert learner._graphed is not None
        replayed, computed = learner._graphed(episode), plain.batch_gradient(episode)
        for name, gradient in computed.gradients.items():
            torch.testing.assert_close(replayed.gradients[name], gradient)


def test_weights_that_moved_or_were_frozen_are_recorded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: what is recorded here is nothing, and how often is counted."""
    recorded = []

    def record(graphed: GraphedGradient, episode: Episode) -> None:
        recorded.append(graphed)
        graphed._episode = episode.map(torch.clone)
        graphed._gradient, graphed._graph = OuterGradient({}, {}, {}), SimpleNamespace(replay=lambda: None)  # type: ignore[assignment]

    monkeypatch.setattr(GraphedGradient, "_record", record)
    network, episode = TwoBlocks(), make_episode(2)
    graphed = GraphedGradient(lambda _: OuterGradient({}, {}, {}), lambda: list(network.parameters()))
    weight = next(network.parameters())
    for change in (
        lambda: None,
        lambda: weight.data.mul_(2),
        lambda: setattr(weight, "data", weight.data.clone()),
        lambda: setattr(weight, "requires_grad", False),
        graphed.forget,
    ):
        change()
        graphed(episode)
        graphed(episode)
    assert len(recorded) == 4


def test_a_learner_trained_by_replay_is_tested_without_a_gpu_and_not_trained() -> None:
    learner = make_learner("maml", seed=1, cuda_graph=True)
    make_trainer().test(learner, datamodule=make_data())
    with pytest.raises(ValueError, match=r"outer\.cuda_graph needs a GPU"):
        make_trainer().fit(learner, datamodule=make_data())
