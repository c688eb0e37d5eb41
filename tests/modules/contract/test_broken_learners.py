"""A new learner is found by its export, and one that breaks the contract is caught by the check of what it breaks."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datamodules.episode import Task
from modules import MAML, Learner, OuterLoop, ProtoNet
from modules.functional.tasks.networks import Variables
from tests.every_learner import LEARNERS, learners_of, make_small, support_and_queries
from tests.learnable_images import make_episode
from tests.learner_exceptions import EXCEPTIONS
from tests.modules.contract import test_answers, test_training
from tests.modules.contract.checks import (
    check_arguments,
    check_buffers,
    check_every_parameter_learns,
    check_noise,
    check_other_queries_change_nothing,
    check_states,
    check_tasks_at_once,
)


class FewStates(MAML):
    """Keeps its last state for itself."""

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Variables]:
        yield from list(super().adapt(params, task, steps))[:-1]


class NoiseOfItsBatch(ProtoNet):
    """Draws by a task's place."""

    def draw_noise(self, task_id: Tensor, n_support: int, steps: int) -> Tensor:
        return torch.arange(float(len(task_id))).unsqueeze(1)


class NoNoise(ProtoNet):
    """Says that it draws nothing by what no batch can hold."""

    def draw_noise(self, task_id: Tensor, n_support: int, steps: int) -> Any:
        return None


class LooksAcrossQueries(ProtoNet):
    """Takes the mean query out, and says nothing of it."""

    def predict(self, params: Variables, state: Tensor, query_x: Tensor) -> Tensor:
        queries = self.run(params, "network", query_x)
        return self.logits(params, queries - queries.mean(1, keepdim=True), state)


class LooksAcrossTasks(ProtoNet):
    """Shares its prototypes among tasks."""

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Tensor]:
        for prototypes in super().adapt(params, task, steps):
            yield prototypes.mean(0, keepdim=True).expand_as(prototypes)


class GrowingBuffer(ProtoNet):
    """Has another buffer in training."""

    def train(self, mode: bool = True) -> "GrowingBuffer":
        self.register_buffer("seen", torch.zeros(3 if mode else 1))
        super().train(mode)
        return self


class OwnScale(ProtoNet):
    """Reads a parameter past `params`, and keeps no arguments."""

    def __init__(self, backbone: Any = None, outer: OuterLoop = OuterLoop(), scale: float = 3.0) -> None:
        Learner.__init__(self, backbone, outer)
        self.own_scale, self.distance = nn.Parameter(torch.tensor(scale)), "euclidean"

    def logits(self, params: Variables, embeddings: Tensor, prototypes: Tensor) -> Tensor:
        return float(self.own_scale.detach()) * super().logits(params, embeddings, prototypes)


CAUGHT = [
    (OwnScale, lambda learner: check_every_parameter_learns(learner, make_episode(2)), "no gradient for"),
    (OwnScale, check_arguments, "save_hyperparameters"),
    (FewStates, lambda learner: check_states(learner, make_episode(2)), "2 states of 2 steps"),
    (NoiseOfItsBatch, check_noise, None),
    (NoNoise, check_noise, None),
    (LooksAcrossQueries, lambda learner: check_other_queries_change_nothing(learner, *support_and_queries()), "close"),
    (LooksAcrossTasks, lambda learner: check_tasks_at_once(learner, make_episode(2)), "close"),
    (GrowingBuffer, check_buffers, None),
]


@pytest.mark.parametrize(("kind", "check", "words"), CAUGHT, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_learner_is_caught(kind: type[Learner], check: Any, words: str | None) -> None:
    with pytest.raises(AssertionError, match=words):
        check(make_small(kind))
    check(make_small(kind.__base__))  # type: ignore[arg-type]


def test_a_new_learner_is_found_by_its_export() -> None:
    module: Any = ModuleType("more_methods")
    module.FewStates, module.Learner, module.inner_loop = FewStates, Learner, len
    module.__all__ = ["FewStates", "Learner", "inner_loop"]
    assert learners_of(module) == [FewStates]


def test_exceptions_are_of_learners_and_of_tests() -> None:
    assert EXCEPTIONS.keys() <= {kind.__name__ for kind in LEARNERS}
    tests = {name for name in (*vars(test_answers), *vars(test_training)) if name.startswith("test_")}
    left_out = {name: reason for each in EXCEPTIONS.values() for name, reason in each.left_out.items()}
    assert left_out.keys() <= tests
    assert all(left_out.values())
