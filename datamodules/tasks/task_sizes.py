"""How large training tasks are: all alike, or another size in every batch."""

from dataclasses import dataclass
from typing import Any

import torch

from datamodules.tasks.counter import random_bits, random_integers
from datamodules.tasks.sampling import EpisodeShape

Count = int | list[int]  # a number, or the smallest and the largest one

SIZES_STREAM = 1 << 25  # keeps these draws apart from those of tasks


@dataclass(frozen=True)
class TaskSizes:
    """The sizes that training tasks may have; all tasks of a batch have one.

    Args:
        n_way: The fewest and the most classes.
        k_shot: The fewest and the most support examples of each class.
        n_query: Query examples of each class.
    """

    n_way: tuple[int, int]
    k_shot: tuple[int, int]
    n_query: int

    @classmethod
    def of(cls, n_way: Count, k_shot: Count, n_query: int) -> "TaskSizes":
        """From a data module's arguments.

        Raises:
            ValueError: If one is neither a number nor two rising ones.
        """
        return cls(_ends("n_way", n_way), _ends("k_shot", k_shot), n_query)

    @property
    def largest(self) -> EpisodeShape:
        """Returns what every split and class must have enough for."""
        return EpisodeShape(self.n_way[1], self.k_shot[1], self.n_query)

    @property
    def vary(self) -> bool:
        """Tells whether there is more than one size."""
        return self.n_way[0] < self.n_way[1] or self.k_shot[0] < self.k_shot[1]

    def of_batch(self, seed: int, batch: int) -> EpisodeShape:
        """The size of a batch's tasks, each number between its ends equally often: a function of seed and batch."""
        bits = random_bits(seed, SIZES_STREAM, torch.tensor([batch]), 2)[0]

        def drawn(position: int, ends: tuple[int, int]) -> int:
            return ends[0] + int(random_integers(bits[position], ends[1] - ends[0] + 1))

        return EpisodeShape(drawn(0, self.n_way), drawn(1, self.k_shot), self.n_query)

    def describe(self) -> dict[str, Any]:
        """By the arguments' names."""
        ends = {"n_way": self.n_way, "k_shot": self.k_shot}
        return {n: low if low == high else [low, high] for n, (low, high) in ends.items()} | {"n_query": self.n_query}


def largest(count: Count) -> int:
    """The number, or the larger of two."""
    return count if isinstance(count, int) else max(count, default=0)


def evaluated_size(name: str, given: int | None, trained: Count) -> int:
    """A size of the evaluated tasks; as in training where none is given.

    Raises:
        ValueError: If there is no such size, because training has several.
    """
    if given is not None:
        return given
    if isinstance(trained, int):
        return trained
    raise ValueError(f"{name} = {list(trained)} is of training: set evaluation.{name} to the size that is evaluated.")


def _ends(name: str, count: Count) -> tuple[int, int]:
    if isinstance(count, int):
        return count, count
    if len(count) != 2 or count[0] > count[1]:
        raise ValueError(
            f"{name} must be a number, or the smallest and the largest one, as in [5, 20]: got {list(count)}."
        )
    if count[0] < 1:
        raise ValueError(f"{name} must be at least 1, got {list(count)}.")
    return count[0], count[1]
