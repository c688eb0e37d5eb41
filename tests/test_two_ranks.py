"""Two processes train and score as one does: float32 weights after many steps, and scores of tasks shared unevenly."""

from typing import Any

import pytest

from tests.learnable_images import make_data
from tests.rank_pair import RankPair
from tests.training_runs import State, largest_difference, make_learner, make_trainer, same, state_of

METHODS = ["maml", "reptile", "protonet"]


def train(method: str, n_steps: int) -> State:
    learner = make_learner(method, seed=1)
    make_trainer(max_steps=n_steps, val_check_interval=10).fit(learner, datamodule=make_data())
    return state_of(learner)


@pytest.mark.parametrize("method", METHODS)
def test_the_ranks_stay_bitwise_equal_and_near_one_process(rank_pair: RankPair, method: str) -> None:
    first, second = rank_pair(train, method, 20)
    assert same(first, second)
    assert largest_difference(first, train(method, 20)) < 1e-5


def score(method: str) -> dict[str, Any]:
    """Scores of 5 validation and 37 test tasks, 8 at once on each rank: rank 1 validates on none."""
    learner, trainer, data = make_learner(method, seed=1), make_trainer(max_steps=3, precision="64-true"), make_data()
    trainer.fit(learner, datamodule=data)
    validation = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    (test,) = trainer.test(learner, datamodule=data, verbose=False)
    return {**validation, **test}


@pytest.mark.parametrize("method", METHODS)
def test_scores_over_two_ranks_are_those_of_one(rank_pair: RankPair, method: str) -> None:
    expected = score(method)
    assert {"val/accuracy", "val/ci95", "test/accuracy", "test/ci95", "test/loss"} <= expected.keys()
    for scores in rank_pair(score, method):
        assert scores == pytest.approx(expected, rel=1e-9)
