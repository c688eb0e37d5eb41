"""Guards against fooling oneself: no class, and no image, may be in two splits."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from datamodules.images.bank import QUARTER_TURNS, ImageBank
from datamodules.images.duplicates import images_of_classes

SHOWN = 3


class LeakError(ValueError):
    """Two splits share classes or images."""

    same_on_every_rank = True  # so the first one says it


def leaks_between_splits(bank: ImageBank, splits: dict[str, list[int]], digest: Tensor) -> list[str]:
    """Compares the classes of the splits, and every image of theirs with those of the other splits.

    A character turned is the same class. Identical images inside one split are no leak.

    Args:
        bank: The images.
        splits: For each split its classes.
        digest: (N,) int64, the images' contents.

    Returns:
        For each pair of splits that share something half a sentence: which splits, which classes, how many images.
    """
    classes = {split: list(dict.fromkeys(own)) for split, own in splits.items()}
    images = _images_in_several_splits(bank, list(classes.values()), digest)  # split's position -> its classes
    found = []
    for (i, one), (j, other) in combinations(enumerate(classes), 2):
        origins = {_origin(bank, c) for c in classes[one]} & {_origin(bank, c) for c in classes[other]}
        if origins:
            names = _listed([repr(name) for name in sorted(origins)])
            found.append(f"{one} and {other} share {_counted(len(origins), 'class', 'classes')}: {names}")
        pairs: Counter[tuple[str, str]] = Counter()
        for owners in images:
            for c in owners[j] if owners[i] else ():
                if _origin(bank, c) not in origins:
                    pairs[bank.class_names[owners[i][0]], bank.class_names[c]] += 1
        if pairs:
            names = _listed([f"{n} of {b!r} in {a!r}" for (a, b), n in pairs.most_common()])
            count = _counted(pairs.total(), "image that is", "images that are")
            found.append(f"{other} holds {count} in {one} too: {names}")
    return found


def class_origins(bank: ImageBank, classes: Iterable[int]) -> list[str]:
    """The names of some classes, each once, a turned one's under that of the unturned."""
    return sorted({_origin(bank, c) for c in classes})


def seen_in_training(
    bank: ImageBank, split: str, classes: list[int], names: list[str], images: Tensor, digest: Tensor
) -> list[str]:
    """Compares a split with what a checkpoint was trained on: by the classes' names, and those of others by contents.

    An image of a class that counts as turned is found where the unturned one was trained on.

    Args:
        bank: The images.
        split: The split's name.
        classes: Its classes.
        names: Of the classes that were trained on.
        images: (M,) int64, the digests of the images that were trained on.
        digest: (N,) int64, of the bank's images.

    Returns:
        Half a sentence for each of the two that finds something.
    """
    found = []
    known = {_origin(bank, c) for c in classes} & set(names)
    if known:
        count = _counted(len(known), "class", "classes")
        listed = _listed([repr(name) for name in sorted(known)])
        found.append(f"{split} holds {count} that the checkpoint was trained on: {listed}")
    position, owner = images_of_classes(bank, [c for c in classes if _origin(bank, c) not in known])
    unturned = position % (len(digest) // bank.turns)
    seen = (torch.isin(digest[position], images) | torch.isin(digest[unturned], images)).numpy()  # (n,)
    if seen.any():
        by_class = Counter(_origin(bank, c) for c in owner[seen].tolist())
        count = _counted(by_class.total(), "image", "images")
        listed = _listed([f"{n} of {name!r}" for name, n in by_class.most_common()])
        found.append(f"{split} holds {count} that the checkpoint or its backbone was trained on: {listed}")
    return found


def refusal_of_seen(found: Iterable[str]) -> LeakError:
    """Returns what stops a score on what was trained on."""
    return LeakError(
        f"no result would mean anything: {'; '.join(found)}. Score it on other images, as by the split that it was "
        "trained with, or set data.evaluation.leaks to warn, and the results say so."
    )


def refusal(leaks: Iterable[str]) -> LeakError:
    """Returns what stops a run whose splits leak."""
    return LeakError(
        f"the splits leak, so no result would mean anything: {'; '.join(leaks)}. Take them out of one split, or set "
        "data.evaluation.leaks to warn where a published data set is known to hold them."
    )


def _images_in_several_splits(bank: ImageBank, splits: Sequence[list[int]], digest: Tensor) -> list[list[list[int]]]:
    """The images that are in two splits or more: of each, for each split the classes in which it stands."""
    position, klass = images_of_classes(bank, [c for split in splits for c in split])
    owner = np.repeat(np.arange(len(splits)), [sum(int(bank.class_size[c]) for c in split) for split in splits])
    mark = digest.numpy()[position]
    several = _in_several(mark, owner, len(splits))
    found: dict[int, list[list[int]]] = {}
    for same, c, split in zip(mark[several].tolist(), klass[several].tolist(), owner[several].tolist(), strict=True):
        found.setdefault(same, [[] for _ in splits])[split].append(c)
    return list(found.values())


def _in_several(mark: np.ndarray, owner: np.ndarray, n_splits: int) -> np.ndarray:
    """Which images (N,) have a mark (N,) that images of other splits, their owners (N,), have too."""
    _, group = np.unique(mark, return_inverse=True)
    seen = np.zeros((n_splits, len(mark)), bool)  # split, group
    seen[owner, group] = True
    return (seen.sum(0) > 1)[group]


def _origin(bank: ImageBank, c: int) -> str:
    """A class's name, without the turn of a turned one."""
    name = bank.class_names[c]
    stem, _, turn = name.rpartition("/")
    return stem if turn in QUARTER_TURNS else name


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - SHOWN:,} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
