"""Lightning evaluates in inference mode by default: every learner gives the same numbers in it as outside."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from app.command_line.trainer_options import DEFAULTS
from datamodules import Sinusoid
from datamodules.episode import Task
from datamodules.episode_data import EpisodeDataModule
from datamodules.settings import Evaluation, Loading
from modules import ANIL, MAML, MLP, Learner, ProtoNet
from modules.functional.tasks.networks import Variables
from modules.learner.evaluation import answers_after
from modules.learner.inference_mode import outside_inference_mode
from tests.every_learner import OF_FUNCTIONS, OF_IMAGES, every, make_small, make_small_of_functions
from tests.learnable_images import TwoBlocks, make_data, make_episode
from tests.plain_trainer import plain_trainer
from tests.training_runs import same, state_of


def evaluated(learner: Learner, data: EpisodeDataModule, inference_mode: bool) -> tuple[dict[str, float], list[Tensor]]:
    """The scores of a validation and a test, and the answers for the test tasks."""
    trainer = plain_trainer(inference_mode=inference_mode)
    scores: dict[str, float] = {}
    for evaluate in (trainer.validate, trainer.test):
        scores |= evaluate(learner, datamodule=data, verbose=False)[0]
    answers: Any = trainer.predict(learner, datamodule=data)
    return scores, [batch["answers"] for batch in answers]


def assert_equal_in_both_modes(learner: Learner, data: EpisodeDataModule) -> None:
    outside = evaluated(learner, data, bool(DEFAULTS["inference_mode"]))
    assert not DEFAULTS["inference_mode"]
    inside = evaluated(learner, data, inference_mode=True)
    assert inside[0] == outside[0]
    assert all(map(torch.equal, inside[1], outside[1]))
    assert not any(answers.is_inference() for answers in inside[1])


@every(OF_IMAGES)
def test_images_are_scored_as_on_the_command_line(kind: Callable[..., Learner]) -> None:
    evaluation = Evaluation(n_val_tasks=3, n_test_tasks=5, batch_size=4)
    learner = make_small(kind, running_stats=kind is not MAML).float()
    assert_equal_in_both_modes(learner, make_data(evaluation=evaluation))


@every(OF_FUNCTIONS)
def test_functions_are_scored_as_on_the_command_line(kind: Callable[..., Learner]) -> None:
    evaluation = Evaluation(n_val_tasks=3, n_test_tasks=5, batch_size=4)
    assert_equal_in_both_modes(
        make_small_of_functions(kind, backbone=MLP(widths=(8,))).float(), Sinusoid(k_shot=5, evaluation=evaluation)
    )


class ByTorchFunc(ANIL):
    """ANIL whose one step is `torch.func.grad`'s, which in inference mode is zero without a word."""

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Variables]:
        features = self.run(params, "network.backbone", task.x)  # (T, S, D)
        head = self.network.get_submodule("head")
        own = {name.removeprefix("network.head."): value for name, value in self.fast_params(params).items()}

        def loss(weights: Variables, x: Tensor, y: Tensor) -> Tensor:
            return self.objective.loss(functional_call(head, weights, (x,)), y).mean()

        yield {f"network.head.{name}": value.expand(len(features), *value.shape) for name, value in own.items()}
        gradients = vmap(grad(loss), (None, 0, 0))(own, features, task.y)
        yield {f"network.head.{name}": own[name] - self.inner_lr * step for name, step in gradients.items()}


@pytest.mark.parametrize("loading", [Loading("device"), Loading("cpu")], ids=str)
def test_gradients_of_torch_func_are_not_zero(loading: Loading) -> None:
    data, learner = (
        make_data(loading=loading, evaluation=Evaluation(n_val_tasks=2, n_test_tasks=4)),
        make_small(ByTorchFunc, inner_steps=1).float(),
    )
    assert_equal_in_both_modes(learner, data)
    untouched: Any = make_small(ByTorchFunc, inner_steps=1).float()
    untouched.inner_lr = untouched.eval_inner_lr = 0.0
    assert evaluated(learner, data, True)[0] != evaluated(untouched, data, True)[0]


@pytest.mark.parametrize("frozen", [False, True])
def test_what_an_evaluation_has_kept_can_be_trained_with(frozen: bool) -> None:
    def train(evaluates: bool) -> Any:
        torch.manual_seed(0)
        backbone = TwoBlocks(running_stats=True)
        if frozen:
            backbone.freeze()
        learner, data = ProtoNet(backbone, distance="cosine"), make_data()
        if evaluates:
            evaluated(learner, data, inference_mode=True)
        plain_trainer(max_steps=3, num_sanity_val_steps=0).fit(learner, datamodule=data)
        return state_of(learner)

    assert same(train(evaluates=True), train(evaluates=False))


def test_a_learner_that_was_asked_for_a_classifier_trains_as_one_that_was_not() -> None:
    """It was left in evaluation, in which MAML cannot train and a ProtoNet's running statistics stay."""
    states = []
    for asks in (True, False):
        learner = make_small(MAML).float()
        if asks:
            learner.classifier(make_episode(1, torch.float32).task)
        plain_trainer(max_steps=2).fit(learner, datamodule=make_data())
        states.append(state_of(learner))
    assert same(*states)


def test_a_user_may_ask_in_inference_mode() -> None:
    learner, episode = make_small(MAML).float(), make_episode(2, torch.float32)

    def answers() -> list[Tensor]:
        given = episode.map(torch.clone)  # in inference mode, tensors of it
        classifier = learner.classifier(given.task)
        after = answers_after(learner, given.task_id, given.task, given.query_x, [0, 1])
        return [classifier(given.query_x), *after.values()]

    outside = answers()
    with torch.inference_mode():
        inside = answers()
    assert all(map(torch.equal, inside, outside))
    assert not torch.equal(inside[1], inside[2])


def test_a_learner_made_in_inference_mode_answers() -> None:
    episode = make_episode(1, torch.float32)
    with torch.inference_mode():
        inside = make_small(MAML).float().classifier(episode.task)(episode.query_x)
    assert torch.equal(inside, make_small(MAML).float().classifier(episode.task)(episode.query_x))


def test_the_mode_around_a_function_comes_back() -> None:
    @outside_inference_mode
    def modes(x: Tensor) -> tuple[bool, bool, bool]:
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), x.is_inference()

    with torch.inference_mode():
        assert modes(torch.zeros(1)) == (False, False, False)
        assert torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
