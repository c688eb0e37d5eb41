"""The answer for one image of a user's: what `predict` says of it."""

from pathlib import Path
from typing import NamedTuple

UNSURE = "unsure"  # the label of an answer that commits itself to no class


class Answer(NamedTuple):
    """What is said of one image."""

    file: Path
    label: str  # a class, or `UNSURE`
    guess: str  # the most probable class
    probabilities: list[float]  # of each class
    truth: str | None  # the class in whose folder the image lies, if in one
    likeness: float | None = None  # to the training data, in [0, 1]; None: not measured
    reason: str = ""  # why it is unsure
    copy_of: Path | None = None  # the support image that it is, whose answer proves nothing

    @property
    def counts(self) -> bool:
        """Tells whether the answer is right or wrong: its class is known, and was not shown."""
        return self.truth is not None and self.copy_of is None
