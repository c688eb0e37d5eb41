"""The mean over tasks and its interval against numpy, in one process and over two."""

import os

import numpy as np
import pytest
import torch

from modules.learner.scores import Score, TaskScores, logged
from modules.learner.task_mean import TaskMean
from tests.rank_group import RankGroup

SCORES = np.random.default_rng(0).random(37)


def expected(scores: np.ndarray) -> tuple[float, float]:
    return scores.mean(), 1.96 * scores.std(ddof=1) / np.sqrt(len(scores))


@pytest.mark.parametrize("batch_size", [1, 8, 37])
def test_it_is_numpys_mean_and_interval_for_any_batches(batch_size: int) -> None:
    mean = TaskMean()
    for start in range(0, len(SCORES), batch_size):
        mean.update(torch.tensor(SCORES[start : start + batch_size]))
    assert [value.item() for value in mean.compute()] == pytest.approx(expected(SCORES), rel=1e-12)
    assert mean.counted == 37


def test_one_task_has_no_interval() -> None:
    mean = TaskMean()
    mean.update(torch.tensor([0.25]))
    assert [value.item() for value in mean.compute()] == [0.25, 0.0]


@pytest.mark.parametrize(("n_tasks", "interval"), [(1, set()), (2, {"val/ci95"})])
def test_the_scores_of_an_evaluation_say_of_how_many_tasks(n_tasks: int, interval: set[str]) -> None:
    scores, device = TaskScores(torch.device("cpu")), torch.device("cpu")
    scores.update(torch.arange(n_tasks), {Score("loss"): torch.rand(n_tasks), Score("mse"): torch.rand(n_tasks)})
    found = logged("val", scores.means(), "mse", device)
    assert found.keys() == {"val/loss", "val/mse", "val/n_tasks"} | interval
    assert found["val/n_tasks"].item() == n_tasks


def test_equal_scores_have_an_interval_of_zero_and_not_nan() -> None:
    mean = TaskMean()
    mean.update(torch.full((1000,), 0.1, dtype=torch.float32))
    assert mean.compute()[1].item() == pytest.approx(0, abs=1e-8)


def mean_of_share(n_first: int) -> list[float]:
    """Rank 0 sees the first scores, rank 1 the others; a rank without any does not update."""
    share = SCORES[:n_first] if os.environ["LOCAL_RANK"] == "0" else SCORES[n_first:]
    mean = TaskMean()
    if len(share):
        mean.update(torch.tensor(share))
    return [*(value.item() for value in mean.compute()), mean.counted]


@pytest.mark.parametrize("n_first", [19, 30, 37])
def test_two_ranks_with_different_numbers_of_tasks_sum(rank_pair: RankGroup, n_first: int) -> None:
    for result in rank_pair(mean_of_share, n_first):
        assert result == pytest.approx([*expected(SCORES), 37], rel=1e-12)
