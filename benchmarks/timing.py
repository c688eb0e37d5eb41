"""Timing several ways of doing the same thing, in turns, so that a machine's moods hit all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

MIN_ROUNDS = 3

Contestant = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """How long a contestant's calls took, in seconds.

    Args:
        median: Of the rounds.
        minimum: The fastest round.
        maximum: The slowest round.
        rounds: Calls that were timed.
        first: The warm-up call, which is in none of the above; holds compiling where there is any; None without one.
    """

    median: float
    minimum: float
    maximum: float
    rounds: int
    first: float | None = None


def compare(
    contestants: Mapping[str, Contestant], seconds: float, device: torch.device, warm_up: bool = True
) -> dict[str, Timing]:
    """Times contestants in interleaved rounds: each once for warm-up, then a b c a b c ... until the seconds are used.

    Args:
        contestants: Name -> what is timed, called with no arguments; what it returns is dropped.
        seconds: For the rounds of all contestants together. At least `MIN_ROUNDS` rounds are made, however long they
            take; the warm-up is not counted.
        device: Its queue is emptied before and after each call, so that a call's time is its own.
        warm_up: False where each contestant has run on these very sizes already.

    Returns:
        Name -> its times, in the order given.
    """
    first = {name: once(contestant, device) for name, contestant in contestants.items()} if warm_up else {}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    start, rounds = time.perf_counter(), 0
    while contestants and (rounds < MIN_ROUNDS or time.perf_counter() - start < seconds):
        for name, contestant in contestants.items():
            times[name].append(once(contestant, device))
        rounds += 1
    return {
        name: Timing(statistics.median(calls), min(calls), max(calls), len(calls), first.get(name))
        for name, calls in times.items()
    }


def once(contestant: Contestant, device: torch.device) -> float:
    """The seconds that one call takes, to the end of the device's work."""
    synchronise(device)
    start = time.perf_counter()
    contestant()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Waits for a GPU to finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
