"""From a bank and a list of classes to the pool that tasks are drawn from; and whether it can make a task."""

import torch

from datamodules.images.bank import ImageBank
from datamodules.images.class_sizes import images_needed, refusal_of_small_classes
from datamodules.tasks.sampling import ClassPool, EpisodeShape


def pool_of(bank: ImageBank, groups: list[list[int]]) -> ClassPool:
    """Makes the pool of a split.

    Args:
        bank: The images.
        groups: The split's classes; all classes of a task come from one group. Usually a single group.

    Returns:
        The pool, on the CPU.
    """
    class_id = torch.tensor([c for group in groups for c in group], dtype=torch.int64)
    size = torch.tensor([len(group) for group in groups])
    return ClassPool(
        class_id=class_id,
        class_start=bank.class_start[class_id],
        class_size=bank.class_size[class_id],
        group_start=size.cumsum(0) - size,
        group_size=size,
        first_half=None if bank.first_half is None else bank.first_half[class_id],
    )


def check_pool(bank: ImageBank, pool: ClassPool, shape: EpisodeShape, split: str) -> None:
    """Checks that every task of a size can be drawn from a split.

    Args:
        bank: The images.
        pool: The split's.
        shape: The size of a task.
        split: The split's name, for messages.

    Raises:
        ValueError: If a group has fewer than n_way classes, or a class too few images; names it, with the numbers.
    """
    for start, size in zip(pool.group_start.tolist(), pool.group_size.tolist(), strict=True):
        first = repr(bank.class_names[int(pool.class_id[start])]) if size else "an empty group"
        alone = len(pool.group_size) == 1
        check_class_count(size, shape, f"the {split} split" if alone else f"the {split} split's group of {first}")
    _check_class_sizes(bank, pool, shape, split)


def check_class_count(count: int, shape: EpisodeShape, where: str) -> None:
    """Checks that there are classes enough for a task.

    Raises:
        ValueError: If `count` is less than n_way; says where.
    """
    if count < shape.n_way:
        mend = "add classes" if count < 2 else "lower n_way, or add classes"
        raise ValueError(f"n_way = {shape.n_way} is more than {where} has classes ({count}): {mend}.")


def check_images_per_class(count: int, shape: EpisodeShape, split: str, in_halves: bool) -> None:
    """Checks that classes of which every one has as many images have enough for a task.

    Raises:
        ValueError: If they have not; one line with the numbers.
    """
    need, why = images_needed(shape, in_halves)
    if count < need:
        raise ValueError(
            f"every class of the {split} split has {count} images to draw from, but a task needs {need} ({why}): lower "
            "k_shot or n_query."
        )


def _check_class_sizes(bank: ImageBank, pool: ClassPool, shape: EpisodeShape, split: str) -> None:
    need, why = images_needed(shape, halves=pool.first_half is not None)
    room = pool.class_size
    if pool.first_half is not None:
        room = torch.minimum(pool.first_half, pool.class_size - pool.first_half)
    small = (room < need).nonzero().flatten().tolist()
    if small:
        counted = [(bank.class_names[int(pool.class_id[c])], int(room[c])) for c in small]
        offer = "leave these classes out"
        copies = sum(same >= 0 for _, same in bank.left_out)
        note = f" {copies:,} files of the data are copies and do not count." if copies else ""
        refusal = refusal_of_small_classes(counted, len(room), f"the {split} split", need, why, offer)
        raise ValueError(refusal + note)
