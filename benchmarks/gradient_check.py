"""Whether contestants compute the same outer gradient, to tell a faster step from another one."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch

from benchmarks.cases import Case, Gradients
from benchmarks.contestants import REFERENCE, Contestant

DTYPES = (torch.float32, torch.float64)


class Difference(NamedTuple):
    """|g - g_reference| / |g_reference| over all parameters.

    In float32, as timed, one ReLU whose input rounds to the other side of 0 makes 1e-3; float64 says whether two
    contestants compute the same.
    """

    float32: float
    float64: float


class Checks:
    """Compares contestants' gradients with the reference's, once for each case.

    Args:
        entered: The contestants that are installed.
        device: Where they run.
    """

    def __init__(self, entered: Sequence[Contestant], device: torch.device) -> None:
        self.contestants, self.device = {contestant.name: contestant for contestant in entered}, device
        self._found: dict[tuple[Case, str], Difference] = {}
        self._reference: dict[Case, list[Gradients]] = {}

    def difference(self, case: Case, name: str) -> Difference | None:
        """A contestant's difference to the reference; None where that is not installed."""
        if REFERENCE not in self.contestants:
            return None
        if (case, name) not in self._found:
            if case not in self._reference:
                self._reference[case] = self._gradients(REFERENCE, case)
            pairs = zip(self._gradients(name, case), self._reference[case], strict=True)
            float32, float64 = (relative_difference(gradients, reference) for gradients, reference in pairs)
            self._found[case, name] = Difference(float32, float64)
        return self._found[case, name]

    def _gradients(self, name: str, case: Case) -> list[Gradients]:
        make, (case, n_tasks) = self.contestants[name].make, checked(case)
        return [make(dataclasses.replace(case, dtype=dtype), n_tasks, self.device, None)() for dtype in DTYPES]


def checked(case: Case) -> tuple[Case, int]:
    """The case that is compared and on how many tasks: a large network on few small images, where it takes seconds."""
    if case.network == "conv4":
        return case, 4
    return dataclasses.replace(case, image_size=32, k_shot=1, n_query=1), 2


def relative_difference(gradients: Gradients, reference: Gradients) -> float:
    """The norm of the difference over the norm of the reference, over all parameters."""
    difference = torch.cat([(gradients[name] - value).flatten() for name, value in reference.items()])
    return float(difference.norm() / torch.cat([value.flatten() for value in reference.values()]).norm())
