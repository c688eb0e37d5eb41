"""From a bank and class lists to a pool, and what is refused on the way."""

import pytest
import torch

from datamodules.images.bank import ImageBank
from datamodules.images.pools import check_pool, pool_of
from datamodules.tasks.sampling import ClassPool, EpisodeShape

SIZES = [6, 4, 9, 3, 5, 8]


def make_bank(halves: list[int] | None = None) -> ImageBank:
    images = torch.zeros(sum(SIZES), 1, 2, 2, dtype=torch.uint8)
    return ImageBank.from_sizes(images, [f"Alphabet/character{c}" for c in range(len(SIZES))], SIZES, halves)


def checked_pool(bank: ImageBank, groups: list[list[int]], shape: EpisodeShape, split: str) -> ClassPool:
    pool = pool_of(bank, groups)
    check_pool(bank, pool, shape, split)
    return pool


def test_a_pool_lists_where_its_classes_stand() -> None:
    pool = checked_pool(make_bank(), [[4, 0, 2]], EpisodeShape(3, 1, 4), "train")
    assert pool.class_id.tolist() == [4, 0, 2]
    assert pool.class_start.tolist() == [22, 0, 10]
    assert pool.class_size.tolist() == [5, 6, 9]
    assert (pool.group_start.tolist(), pool.group_size.tolist()) == ([0], [3])
    assert pool.first_half is None


def test_a_pool_keeps_groups_and_halves() -> None:
    pool = checked_pool(make_bank([3, 2, 4, 1, 2, 6]), [[2, 0], [5, 1, 4]], EpisodeShape(2, 1, 2), "val")
    assert pool.class_id.tolist() == [2, 0, 5, 1, 4]
    assert (pool.group_start.tolist(), pool.group_size.tolist()) == ([0, 2], [2, 3])
    assert pool.first_half is not None
    assert pool.first_half.tolist() == [4, 3, 6, 2, 2]


def test_a_pool_moves_with_and_without_halves() -> None:
    for halves in (None, [3, 2, 4, 1, 2, 6]):
        pool = checked_pool(make_bank(halves), [[0, 1, 2]], EpisodeShape(2, 1, 1), "val").to(torch.device("meta"))
        moved = [value for value in vars(pool).values() if value is not None]
        assert len(moved) == (5 if halves is None else 6)
        assert {value.device.type for value in moved} == {"meta"}


def test_a_class_with_too_few_images_is_named() -> None:
    shape = EpisodeShape(n_way=2, k_shot=1, n_query=3)
    checked_pool(make_bank(), [[0, 1, 2]], shape, "val")  # 4 images are enough
    with pytest.raises(ValueError, match=r"'Alphabet/character3' of the val split has 3 images .* 1 \+ 3 = 4"):
        checked_pool(make_bank(), [[0, 1, 2, 3]], shape, "val")


@pytest.mark.parametrize(
    ("k_shot", "n_query", "refused"),
    [
        (2, 2, None),
        (1, 2, None),
        (3, 1, ("character1", 2, 3)),
        (1, 3, ("character1", 2, 3)),
        (4, 4, ("character5", 2, 4)),
    ],
)
def test_each_half_must_hold_enough(k_shot: int, n_query: int, refused: tuple[str, int, int] | None) -> None:
    # Classes of 6, 4 and 8 images: the smaller half may be the first or the second.
    bank = make_bank([3, 2, 4, 1, 2, 6])
    classes, shape = ([0, 5] if k_shot == 4 else [0, 1, 5]), EpisodeShape(2, k_shot, n_query)
    if refused is None:
        checked_pool(bank, [classes], shape, "test")
        return
    name, has, needs = refused
    with pytest.raises(ValueError, match=rf"of the test split .*{name}' \({has}\).* needs {needs}"):
        checked_pool(bank, [classes], shape, "test")


def test_more_ways_than_classes_are_refused() -> None:
    checked_pool(make_bank(), [[0, 1, 2]], EpisodeShape(3, 1, 1), "test")
    with pytest.raises(ValueError, match=r"n_way = 4 is more than the test split has classes \(3\)"):
        checked_pool(make_bank(), [[0, 1, 2]], EpisodeShape(4, 1, 1), "test")
    with pytest.raises(ValueError, match=r"train split has classes \(0\)"):
        checked_pool(make_bank(), [[]], EpisodeShape(4, 1, 1), "train")


def test_a_group_smaller_than_a_task_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_way = 3 .* the test split's group of 'Alphabet/character5' .*\(2\)"):
        checked_pool(make_bank(), [[0, 1, 2], [5, 4]], EpisodeShape(3, 1, 1), "test")
