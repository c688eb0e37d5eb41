"""A learner that is fitted, tested or asked twice in one process keeps nothing of the first time."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from datamodules.settings import Evaluation
from modules import Learner
from modules.learner.finite_check import NotFiniteError
from modules.learner.outer_gradient import OuterGradient
from tests.learnable_images import make_data, make_episode
from tests.training_runs import make_learner, make_trainer, same, state_of


def fit(learner: Learner, *callbacks: pl.Callback, **data: Any) -> pl.Trainer:
    trainer = make_trainer(*callbacks, max_steps=2, val_check_interval=1)
    trainer.fit(learner, datamodule=make_data(**data))
    return trainer


def test_a_step_that_was_not_finite_on_a_gpu_stops_that_training_alone() -> None:
    learner = make_learner("protonet", seed=1)
    finds = learner._finite.finds

    def remember(step: int, gradient: OuterGradient, scaled: bool) -> bool:  # as on a GPU
        learner._finite._first_wrong = torch.tensor(1)
        return False

    learner._finite.finds = remember  # type: ignore[method-assign]
    with pytest.raises(NotFiniteError):
        fit(learner)
    learner._finite.finds = finds  # type: ignore[method-assign]
    assert fit(learner).global_step == 2


@pytest.mark.parametrize("outer", [{}, {"accumulate_batches": 2}], ids=str)
def test_a_second_training_is_that_of_a_learner_with_its_weights(outer: dict[str, int]) -> None:
    """Also after one that was broken off in the middle of a step."""

    class Break(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.fit_loop.total_batch_idx == 2:
                raise RuntimeError("broken off")

    learner = make_learner("reptile", seed=1, **outer)
    with pytest.raises(RuntimeError, match="broken off"):
        make_trainer(Break(), max_steps=9).fit(learner, datamodule=make_data())
    fresh = make_learner("reptile", seed=2, **outer)
    fresh.load_state_dict(state_of(learner))
    for again in (learner, fresh):
        fit(again)
    assert same(state_of(learner), state_of(fresh))


def test_tasks_are_laid_out_for_the_new_data() -> None:
    learner = make_learner("maml", seed=1)
    fit(learner, meta_batch_size=1, evaluation=Evaluation(n_val_tasks=1, n_test_tasks=1))
    assert (learner.task_strategy, learner.task_chunk, learner._evaluation_chunks.size) == ("loop", 1, 1)
    fit(learner, meta_batch_size=8, evaluation=Evaluation(n_val_tasks=4, n_test_tasks=4))
    assert (learner.task_strategy, learner.task_chunk, learner._evaluation_chunks.size) == ("batched", 8, 4)


def test_training_metrics_are_of_this_training() -> None:
    class First(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
            self.metrics = dict(module.train_metrics)

    learner, first = make_learner("maml", seed=1), First()
    fit(learner)
    assert learner.train_metrics
    fit(learner, first)
    assert first.metrics == {}


def answers_of(learner: Learner, episode: Any) -> torch.Tensor:
    return learner.predict_step(episode, 0)["answers"]


@pytest.mark.parametrize("change", ["in place", "replaced", "loaded", "temperature"])
def test_the_same_task_is_answered_by_the_new_weights(change: str) -> None:
    episode = make_episode(1, k_shot=2, n_query=3)
    learner, other = (make_learner("protonet", seed).double().eval() for seed in (1, 2))
    before = answers_of(learner, episode)
    if change == "in place":
        for mine, theirs in zip(learner.parameters(), other.parameters(), strict=True):
            torch.no_grad()(mine.copy_)(theirs)
    elif change == "replaced":
        learner.network = other.network
    elif change == "loaded":
        learner.load_state_dict(other.state_dict())
    else:
        learner.temperature = other.temperature = 3.0
        other.load_state_dict(learner.state_dict())
    assert torch.equal(answers_of(learner, episode), answers_of(other, episode))
    assert not torch.equal(answers_of(learner, episode), before)


def test_a_single_tasks_classifier_is_made_once() -> None:
    learner, made = make_learner("maml", seed=1).double(), []
    classifier = learner.classifier

    def counted(*arguments: Any) -> Any:
        made.append(1)
        return classifier(*arguments)

    learner.classifier = counted  # type: ignore[method-assign,assignment]
    episode = make_episode(1, k_shot=2, n_query=3)
    for _ in range(3):
        answers_of(learner, episode)
    assert len(made) == 1


def test_a_prediction_that_failed_leaves_no_classifier() -> None:
    class Fail(pl.Callback):
        def on_predict_batch_end(self, *_: Any) -> None:
            raise RuntimeError("the disk is full")

    learner, data = make_learner("protonet", seed=1), make_data(evaluation=Evaluation(n_test_tasks=1))
    with pytest.raises(RuntimeError, match="the disk is full"):
        make_trainer(Fail()).predict(learner, datamodule=data)
    assert learner._newest_classifier._classifier is not None
    answers = make_trainer().predict(learner, datamodule=data)
    assert answers
    assert learner._newest_classifier._classifier is None


@pytest.mark.parametrize("method", ["maml", "protonet"])
@pytest.mark.parametrize("first", ["64-true", "bf16-true"])
def test_another_precision_is_left_behind(method: str, first: Any) -> None:
    learner, data = make_learner(method, seed=1), make_data()
    make_trainer(max_steps=1, precision=first).fit(learner, datamodule=data)
    trainer = make_trainer(max_steps=1)
    trainer.fit(learner, datamodule=data)
    trainer.test(learner, datamodule=data, verbose=False)
    assert {parameter.dtype for parameter in learner.parameters()} == {torch.float32}
