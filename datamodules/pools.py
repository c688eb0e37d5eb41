"""From a bank and a list of classes to the pool that tasks are drawn from, refusing what cannot make a task."""

import torch

from datamodules.image_bank import ImageBank
from datamodules.sampling import ClassPool, EpisodeShape


def checked_pool(bank: ImageBank, groups: list[list[int]], shape: EpisodeShape, split: str) -> ClassPool:
    """Makes the pool of a split and checks that every task of `shape` can be drawn from it.

    Args:
        bank: The images.
        groups: The split's classes; all classes of a task come from one group. Usually a single group.
        shape: The size of a task.
        split: The split's name, for messages.

    Returns:
        The pool, on the CPU.

    Raises:
        ValueError: If a group has fewer than n_way classes, or a class too few images; names it, with the numbers.
    """
    for group in groups:
        where = f"the {split} split" if len(groups) == 1 else f"the {split} split's group of {_first(bank, group)}"
        check_class_count(len(group), shape, where)
    class_id = torch.tensor([c for group in groups for c in group])
    size = torch.tensor([len(group) for group in groups])
    pool = ClassPool(
        class_id=class_id,
        class_start=bank.class_start[class_id],
        class_size=bank.class_size[class_id],
        group_start=size.cumsum(0) - size,
        group_size=size,
        first_half=None if bank.first_half is None else bank.first_half[class_id],
    )
    _check_class_sizes(bank, pool, shape, split)
    return pool


def check_class_count(count: int, shape: EpisodeShape, where: str) -> None:
    """Checks that there are classes enough for a task.

    Raises:
        ValueError: If `count` is less than n_way; says where.
    """
    if count < shape.n_way:
        raise ValueError(
            f"n_way = {shape.n_way} is more than {where} has classes ({count}): lower n_way, or add classes."
        )


def _check_class_sizes(bank: ImageBank, pool: ClassPool, shape: EpisodeShape, split: str) -> None:
    if pool.first_half is None:
        room, need = pool.class_size, shape.k_shot + shape.n_query
        what = f"k_shot + n_query = {shape.k_shot} + {shape.n_query} = {need}"
    else:
        room, need = torch.minimum(pool.first_half, pool.class_size - pool.first_half), max(shape.k_shot, shape.n_query)
        what = f"the larger of k_shot = {shape.k_shot} and n_query = {shape.n_query}, each from one half of its images"
    smallest = int(room.argmin())
    if int(room[smallest]) < need:
        name = bank.class_names[int(pool.class_id[smallest])]
        raise ValueError(
            f"class {name!r} of the {split} split has {int(room[smallest])} images to draw from, but a task needs "
            f"{need} ({what}): lower k_shot or n_query, or leave the class out."
        )


def _first(bank: ImageBank, group: list[int]) -> str:
    return repr(bank.class_names[group[0]]) if group else "an empty group"
