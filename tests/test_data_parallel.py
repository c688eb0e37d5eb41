"""1, 2 and 4 processes train and score as one does: the same weights, disjoint tasks, the same scores."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from tests.learnable_images import make_data
from tests.rank_group import RankGroup
from tests.training_runs import METHODS, State, largest_difference, make_learner, make_trainer, same, state_of

STEPS, TASKS = 50, 8


@pytest.fixture(params=[2, 4])
def ranks(request: pytest.FixtureRequest) -> RankGroup:
    group: RankGroup = request.getfixturevalue({2: "rank_pair", 4: "rank_quartet"}[request.param])
    return group


class TaskNumbers(pl.Callback):
    """Notes the tasks that this process trains on."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        self.seen += batch.task_id.tolist()


def train(method: str, n_steps: int) -> tuple[State, list[int]]:
    """The weights after some steps, and the numbers of the tasks that this process trained on."""
    learner, numbers = make_learner(method, seed=1), TaskNumbers()
    trainer = make_trainer(numbers, max_steps=n_steps, val_check_interval=25)
    trainer.fit(learner, datamodule=make_data(meta_batch_size=TASKS))
    return state_of(learner), numbers.seen


@pytest.fixture(scope="module")
def alone() -> dict[str, State]:
    """What one process trains."""
    states = {}
    for method in METHODS:
        states[method], seen = train(method, STEPS)
        assert seen == list(range(STEPS * TASKS))
    return states


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_those_of_one_process_and_tasks_are_disjoint(
    ranks: RankGroup, alone: dict[str, State], method: str
) -> None:
    states, tasks = zip(*ranks(train, method, STEPS), strict=True)
    assert all(same(state, states[0]) for state in states)
    assert largest_difference(states[0], alone[method]) < 1e-5
    assert sorted(number for seen in tasks for number in seen) == list(range(STEPS * TASKS))
    share = TASKS // len(tasks)
    for rank, seen in enumerate(tasks):
        assert all(number // share % len(tasks) == rank for number in seen)


def score(method: str) -> dict[str, Any]:
    """Scores of 5 validation and 37 test tasks, 8 at once on each rank: some ranks validate on none."""
    learner, trainer, data = make_learner(method, seed=1), make_trainer(max_steps=3, precision="64-true"), make_data()
    trainer.fit(learner, datamodule=data)
    validation = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    (test,) = trainer.test(learner, datamodule=data, verbose=False)
    tasks, of_tasks = learner.task_scores
    assert tasks == list(range(37))  # on every rank
    means = {f"mean of {label}": sum(values) / 37 for label, values in of_tasks.items()}
    assert means["mean of accuracy"] == pytest.approx(test["test/accuracy"])
    return {**validation, **test, **means}


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_those_of_one_process_also_where_tasks_do_not_divide(ranks: RankGroup, method: str) -> None:
    expected = score(method)
    assert {"val/accuracy", "val/ci95", "test/accuracy", "test/ci95", "test/loss"} <= expected.keys()
    assert (expected["val/n_tasks"], expected["test/n_tasks"]) == (5, 37)
    for scores in ranks(score, method):
        assert scores == pytest.approx(expected, rel=1e-9)


def predict(method: str) -> tuple[list[int], torch.Tensor]:
    learner, trainer = make_learner(method, seed=1), make_trainer(precision="64-true")
    answers: Any = trainer.predict(learner, datamodule=make_data())
    tasks = [number for answer in answers for number in answer["task_id"].tolist()]
    return tasks, torch.cat([answer["answers"] for answer in answers]) if answers else torch.zeros(0, 6, 3)


def test_predictions_cover_every_task_once(ranks: RankGroup) -> None:
    tasks, probabilities = predict("protonet")
    shared = [(number, p) for seen, part in ranks(predict, "protonet") for number, p in zip(seen, part, strict=True)]
    shared.sort(key=lambda pair: pair[0])
    assert [number for number, _ in shared] == tasks == list(range(37))
    assert torch.allclose(torch.stack([p for _, p in shared]), probabilities, atol=1e-12)
