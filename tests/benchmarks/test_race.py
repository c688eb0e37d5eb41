"""Who is timed where time or memory is short."""

import time

import pytest
import torch

from benchmarks import race
from benchmarks.cases import Case, Step
from benchmarks.contestants import AUTO, REFERENCE, Contestant
from benchmarks.growth import exponent

CPU, CASE = torch.device("cpu"), Case(1, 1, 1)
GRADIENTS = {"weight": torch.ones(3)}


def contestant(name: str, seconds_per_task: float = 0.0, most_at_once: int = 1000) -> Contestant:
    """One that sleeps, and says that a GPU's memory is out where too many tasks come at once."""

    def make(case: Case, n_tasks: int, device: torch.device, task_chunk: int | None) -> Step:
        def step() -> dict[str, torch.Tensor]:
            if (task_chunk or n_tasks) > most_at_once:
                raise torch.cuda.OutOfMemoryError("out")
            time.sleep(seconds_per_task * n_tasks)
            return GRADIENTS

        return Step(step)

    return Contestant(name, make)


def enter(entered: list[Contestant], n_tasks: int, seconds: float, budget: float) -> race.Cell:
    cell = race.Cell(CASE, n_tasks, seconds)
    race.enter_all(race.Race(entered, CPU, budget), cell)
    return cell


def test_the_essential_are_timed_where_the_share_is_short() -> None:
    entered = [contestant(name, 0.06) for name in (REFERENCE, AUTO, "other")]
    cell = enter(entered, n_tasks=6, seconds=0.1, budget=100.0)  # a round of one takes 0.36 s, three over a second
    assert list(cell.steps) == [REFERENCE, AUTO]
    assert cell.notes["other"].startswith("skipped: too slow for this budget, about 0.4 s a step")


def test_nobody_is_timed_whose_step_is_longer_than_the_budget_allows() -> None:
    cell = enter([contestant(REFERENCE, 0.4)], n_tasks=1, seconds=0.1, budget=4.0)  # 40 calls of 0.1 s
    assert not cell.steps
    assert "skipped" in cell.notes[REFERENCE]


def test_what_does_not_fit_is_computed_in_halves() -> None:
    cell = enter([contestant(REFERENCE), contestant("other", most_at_once=5)], n_tasks=16, seconds=10.0, budget=100.0)
    assert cell.chunks == {REFERENCE: None, "other": 4}


def test_one_that_fails_does_not_end_the_race() -> None:
    entered = [contestant(REFERENCE), contestant("broken", most_at_once=0), contestant("other")]
    cell = enter(entered, n_tasks=4, seconds=10.0, budget=100.0)
    assert list(cell.steps) == [REFERENCE, "other"]
    assert cell.notes == {"broken": "failed: out"}


def test_the_exponent_is_that_of_a_power_law() -> None:
    values = [2.0, 3.0, 5.0, 9.0]
    assert exponent(values, [7 * value**1.5 for value in values]) == pytest.approx(1.5)
