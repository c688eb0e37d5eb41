"""Tells whether classes have images enough for a task: all that have not are named at once, or left out."""

from collections.abc import Sequence
from typing import Literal

from datamodules.tasks.sampling import EpisodeShape

TooFew = Literal["refuse", "leave_out"]
Counted = tuple[str, int]  # a class and its number of images


def images_needed(shape: EpisodeShape, halves: bool = False) -> tuple[int, str]:
    """Returns the number of images that a class must have for tasks of a size, and the reason.

    Args:
        shape: The size of a task.
        halves: Whether support and query come each from one half of a class's images, so that a half must have them.
    """
    if halves:
        why = f"the larger of k_shot = {shape.k_shot} and n_query = {shape.n_query}, each from one half of its images"
        return max(shape.k_shot, shape.n_query), why
    need = shape.k_shot + shape.n_query
    return need, f"k_shot + n_query = {shape.k_shot} + {shape.n_query} = {need}"


def refusal_of_small_classes(
    small: Sequence[Counted], total: int, where: str, need: int, why: str, offer: str = ""
) -> str:
    """One line that names every class of too few images with its number.

    Args:
        small: These classes.
        total: How many classes there are.
        where: What they belong to, e.g. "the train split".
        need: How many images a class must have.
        why: For what.
        offer: What else can be done, e.g. "leave them out by data.too_few leave_out".
    """
    counts = {count for _, count in small}
    if len(small) == total and len(counts) == 1 and total > 1:
        named = f"each of the {total:,} classes of {where} has {counts.pop():,} images to draw from"
    elif len(small) == 1:
        named = f"class {small[0][0]!r} of {where} has {small[0][1]:,} images to draw from"
    else:
        named = f"{len(small):,} of the {total:,} classes of {where} have too few images to draw from: {listed(small)}"
    mends = ["lower k_shot or n_query", "add images", *([offer] if offer else [])]
    return f"{named}, but a task needs {need} ({why}): {', or '.join(mends)}."


def listed(classes: Sequence[Counted]) -> str:
    """E.g. "'ant' (3), 'bee' (0)"."""
    return ", ".join(f"{name!r} ({count:,})" for name, count in classes)
