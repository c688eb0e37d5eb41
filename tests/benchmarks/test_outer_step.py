"""Every contestant computes the same gradient, and what users get is faster than learn2learn."""

import pytest
import torch

from benchmarks.cases import CONV4_CASES, Case
from benchmarks.contestants import AUTO, REFERENCE, Contestant
from benchmarks.gradient_check import Checks
from benchmarks.outer_step import installed
from benchmarks.timing import compare

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Measured on two CPU cores: 1.9 to 3.2, and more on a GPU; this is where something has gone wrong.
LEAST_RATIO = 1.3


@pytest.fixture(scope="module")
def entered() -> list[Contestant]:
    return installed(DEVICE)


def test_the_gradient_is_learn2learns(entered: list[Contestant]) -> None:
    checks, case = Checks(entered, DEVICE), Case(1, 1, 2)
    names = [contestant.name for contestant in entered]
    assert names[:2] == [REFERENCE, AUTO]
    for name in names:
        difference = checks.difference(case, name)
        assert difference is not None
        # parallel-metalearn: see its file
        assert difference.float64 < (1e-2 if name == "parallel-metalearn" else 1e-11), name


def test_learn2learn_alone_is_timed_on_fewer_tasks(entered: list[Contestant]) -> None:
    assert [contestant.name for contestant in entered if contestant.most_tasks] == [REFERENCE]


@pytest.mark.slow
def test_a_step_of_16_tasks_is_faster_than_learn2learns(entered: list[Contestant]) -> None:
    case = CONV4_CASES[1]
    steps = {c.name: c.make(case, 16, DEVICE, None) for c in entered if c.name in (REFERENCE, AUTO)}
    timings = compare(steps, 15.0, DEVICE)
    assert timings[REFERENCE].median / timings[AUTO].median > LEAST_RATIO
