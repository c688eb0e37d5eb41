"""Images that stand twice: in one class, where a task could ask for what it has shown; and in two."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from datamodules.images.bank import ImageBank

SHOWN = 3  # pairs that are named


def first_of_class(digest: Tensor, owner: np.ndarray) -> np.ndarray:
    """For each image the first one of its class with the same content.

    Args:
        digest: (N,) int64 contents.
        owner: (N,) int64, each image's class.

    Returns:
        (N,) int64 positions; an image's own where none before it is the same.

    Example:
        >>> import torch
        >>> first_of_class(torch.tensor([7, 8, 7, 7]), np.array([0, 0, 0, 1])).tolist()
        [0, 1, 0, 3]
    """
    rows = np.stack([owner, digest.numpy()], 1)  # (N, 2)
    order = np.lexsort((rows[:, 1], rows[:, 0]))  # stable: equal images keep their order
    begins = np.ones(len(rows), bool)
    begins[1:] = (rows[order[1:]] != rows[order[:-1]]).any(1)
    first = np.empty(len(rows), np.int64)
    first[order] = order[begins][begins.cumsum() - 1]
    return first


def copies_in_classes(digest: Tensor, owner: np.ndarray) -> list[tuple[int, int]]:
    """Every image that stands in its class before: the position of the first one, and its own."""
    first = first_of_class(digest, owner)
    return [(int(first[i]), int(i)) for i in np.flatnonzero(first != np.arange(len(first)))]


def images_of_several_classes(digest: Tensor, owner: np.ndarray) -> list[tuple[int, int]]:
    """Images that stand in a class, and before that in another: the position of the first one, and the later one.

    Args:
        digest: (N,) int64 contents.
        owner: (N,) int64, each image's class.

    Returns:
        Pairs, one for each class that the image is in beside the first.
    """
    first = first_of_class(digest, owner)
    once = np.flatnonzero(first == np.arange(len(first)))  # one image of each content of each class
    return [(int(once[i]), int(once[j])) for i, j in copies_in_classes(digest[once], np.zeros(len(once), np.int64))]


def named_pairs(pairs: Sequence[tuple[int, int]], name: Callable[[int], str], between: str) -> str:
    """Names some pairs of images, and counts the rest.

    Args:
        pairs: Positions.
        name: From a position to a file's name.
        between: What stands between the two names, the later image's first.
    """
    named = ", ".join(f"{name(later)} {between} {name(first)}" for first, later in pairs[:SHOWN])
    more = f" and {len(pairs) - SHOWN:,} more" if len(pairs) > SHOWN else ""
    return named + more


def images_of_classes(bank: ImageBank, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The images of some classes.

    Returns:
        Their positions in the bank (n,), and their classes (n,); int64.
    """
    sizes = [int(bank.class_size[c]) for c in classes]
    starts = [int(bank.class_start[c]) for c in classes]
    ranges = [np.arange(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    return np.concatenate([np.empty(0, np.int64), *ranges]), np.repeat(np.asarray(classes, np.int64), sizes)


def copies_in_published(
    bank: ImageBank, digest: Tensor, splits: Mapping[str, Sequence[int]], name: Callable[[int], str]
) -> list[str]:
    """Names the images that a published data set holds twice within a split, and keeps them: the papers drew them.

    Args:
        bank: The images; turned classes are not looked at, which repeat what the unturned ones are.
        digest: (N,) int64, their contents.
        splits: For each split its classes.
        name: From an image's position to its name.

    Returns:
        A line for those of one class, and one for those of two.
    """
    unturned = len(bank.class_names) // bank.turns
    own = {split: {c for c in classes if c < unturned} for split, classes in splits.items()}
    position, owner = images_of_classes(bank, sorted(set().union(*own.values())))
    chosen = digest[position]
    lines = []
    if within := copies_in_classes(chosen, owner):
        count = "1 image stands in its class" if len(within) == 1 else f"{len(within):,} images stand in their class"
        named = named_pairs(within, lambda i: name(int(position[i])), "is")
        lines.append(f"{count} twice, and stay{'s' if len(within) == 1 else ''} as published: {named}")
    pairs = images_of_several_classes(chosen, owner)
    if between := [(i, j) for i, j in pairs if any({owner[i], owner[j]} <= classes for classes in own.values())]:
        count = "1 image stands" if len(between) == 1 else f"{len(between):,} images stand"
        named = named_pairs(between, lambda i: name(int(position[i])), "is")
        lines.append(f"{count} in two classes, and stay{'s' if len(between) == 1 else ''} as published: {named}")
    return lines


def said_of_copies(copies: Sequence[tuple[int, int]], name: Callable[[int], str]) -> str:
    """A line for files that were left out: pairs of positions, each the first file and its copy."""
    count = "1 file is" if len(copies) == 1 else f"{len(copies):,} files are"
    return f"{count} left out, whose content stands in the same class before: {named_pairs(copies, name, 'is')}"


def said_of_two_labels(pairs: Sequence[tuple[int, int]], name: Callable[[int], str]) -> str:
    """Half a sentence for images that stand in two classes: pairs of positions."""
    count = "1 image has" if len(pairs) == 1 else f"{len(pairs):,} images have"
    return f"{count} two labels: {named_pairs(pairs, name, 'is')}"
