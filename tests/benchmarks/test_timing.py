"""Contestants take turns, at least three each, and the summary is of the rounds alone."""

import itertools
from functools import partial

import pytest
import torch

from benchmarks import timing

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that pass only when a contestant moves the hand."""
    hand = [0.0]
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: hand[0])
    return hand


def test_contestants_take_turns_after_a_warm_up(clock: list[float]) -> None:
    calls: list[str] = []
    timings = timing.compare({name: partial(calls.append, name) for name in "abc"}, -1.0, CPU)
    assert calls == list("abc") * (1 + timing.MIN_ROUNDS)
    assert [timings[name].rounds for name in "abc"] == [timing.MIN_ROUNDS] * 3


def test_rounds_go_on_until_the_seconds_are_used_up(clock: list[float]) -> None:
    def two_seconds() -> None:
        clock[0] += 2.0

    timings = timing.compare({"a": two_seconds, "b": two_seconds}, 19.0, CPU)  # a round takes 4 s
    assert timings["a"].rounds == timings["b"].rounds == 5


def test_the_summary_leaves_the_warm_up_out(clock: list[float]) -> None:
    durations = itertools.cycle([100.0, 3.0, 1.0, 1.5])

    def call() -> None:
        clock[0] += next(durations)

    assert timing.compare({"a": call}, 0.0, CPU)["a"] == timing.Timing(1.5, 1.0, 3.0, rounds=3, first=100.0)
    next(durations)
    assert timing.compare({"a": call}, 0.0, CPU, warm_up=False)["a"] == timing.Timing(1.5, 1.0, 3.0, rounds=3)


def test_nobody_takes_no_time() -> None:
    assert timing.compare({}, 1.0, CPU) == {}
