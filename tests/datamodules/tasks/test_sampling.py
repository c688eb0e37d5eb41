"""The drawing of tasks: what a task may hold, and that everything it may hold is equally likely."""

from itertools import permutations
from math import perm

import pytest
import torch
from torch import Tensor

from datamodules.tasks.counter import random_bits
from datamodules.tasks.sampling import DRAWS, ClassPool, Drawn, EpisodeShape, distinct_integers, draw_tasks
from tests.datamodules.chi_square import as_cell, is_uniform


def reference_distinct(bits: list[int], below: int) -> list[int]:
    """Each draw takes its rank from the list of the integers that are left."""
    left = list(range(below))
    return [left.pop(b * len(left) >> 32) for b in bits]


def make_pool(sizes: list[int], groups: list[int] | None = None, halves: list[int] | None = None) -> ClassPool:
    """Classes 100, 101, ... of these sizes, 7 images apart in the bank."""
    size = torch.tensor(sizes)
    group_size = torch.tensor([len(sizes)] if groups is None else groups)
    return ClassPool(
        class_id=torch.arange(len(sizes)) + 100,
        class_start=(size + 7).cumsum(0) - size,
        class_size=size,
        group_start=group_size.cumsum(0) - group_size,
        group_size=group_size,
        first_half=None if halves is None else torch.tensor(halves),
    )


def places(drawn: Drawn, pool: ClassPool) -> Tensor:
    """Each image's place in its class, support first: (T, n_way, k_shot + n_query); checks that it lies in it."""
    position = drawn.class_id - 100
    place = torch.cat([drawn.support, drawn.query], dim=-1) - pool.class_start[position].unsqueeze(-1)
    assert int(place.min()) >= 0
    assert bool((place < pool.class_size[position].unsqueeze(-1)).all())
    return place


def all_distinct(rows: Tensor) -> bool:
    """Whether the last axis never holds a number twice."""
    ordered = rows.sort(-1).values
    return bool((ordered[..., 1:] > ordered[..., :-1]).all())


def uniform_choices(rows: Tensor, below: int) -> bool:
    """Whether every ordered choice of k distinct integers below a bound is equally likely: (n, k)."""
    possible = as_cell(torch.tensor(list(permutations(range(below), rows.shape[-1]))), below).sort().values
    cells = as_cell(rows, below)
    assert bool(torch.isin(cells, possible).all())
    return is_uniform(torch.searchsorted(possible, cells), len(possible))


@pytest.mark.parametrize(("below", "k"), [(2, 1), (2, 2), (3, 2), (4, 4), (5, 2), (5, 3), (6, 3)])
def test_every_ordered_choice_is_equally_likely(below: int, k: int) -> None:
    n = 60 * perm(below, k)
    drawn = distinct_integers(random_bits(1, 0, torch.arange(n), k), torch.full((n,), below))
    assert uniform_choices(drawn, below)


@pytest.mark.parametrize(("below", "k"), [(1, 1), (7, 7), (20, 6), (64, 60), (1623, 20), (2**31 - 1, 5)])
def test_distinct_integers_equal_the_reference(below: int, k: int) -> None:
    bits = random_bits(2, 0, torch.arange(50), k)
    drawn = distinct_integers(bits, torch.full((50,), below))
    assert all_distinct(drawn)
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < below
    if below < 10000:
        assert drawn.tolist() == [reference_distinct(row, below) for row in bits.tolist()]


def test_distinct_integers_of_extreme_bits() -> None:
    largest = (1 << 32) - 1
    bits = torch.tensor([[0] * 5, [largest] * 5, [0, largest] * 2 + [0]])
    expected = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 4, 1, 3, 2]]
    assert distinct_integers(bits, torch.tensor([5, 5, 5])).tolist() == expected


def test_distinct_integers_take_a_bound_for_each_row() -> None:
    below = torch.tensor([[3, 4, 50], [9, 3, 1000]])
    bits = random_bits(3, 0, torch.arange(6), 3).view(2, 3, 3)
    drawn = distinct_integers(bits, below)
    for i in range(2):
        for j in range(3):
            assert drawn[i, j].tolist() == reference_distinct(bits[i, j].tolist(), int(below[i, j]))


def test_a_task_holds_distinct_classes_and_images() -> None:
    sizes = [9, 3, 4, 30, 3, 5, 12]
    pool = make_pool(sizes)
    drawn = draw_tasks(0, 0, torch.arange(3000), pool, EpisodeShape(n_way=4, k_shot=1, n_query=2))
    assert drawn.support.shape == (3000, 4, 1)
    assert drawn.query.shape == (3000, 4, 2)
    assert all_distinct(drawn.class_id)
    assert all_distinct(torch.cat([drawn.support, drawn.query], dim=-1).flatten(1))
    place = places(drawn, pool)
    for c, size in enumerate(sizes):
        assert place[drawn.class_id == 100 + c].unique().tolist() == list(range(size))


def test_all_images_and_classes_of_a_split_may_be_needed() -> None:
    pool = make_pool([3, 3, 3])
    drawn = draw_tasks(0, 0, torch.arange(50), pool, EpisodeShape(n_way=3, k_shot=2, n_query=1))
    assert torch.equal(drawn.class_id.sort(-1).values, torch.tensor([100, 101, 102]).expand(50, 3))
    assert torch.equal(places(drawn, pool).sort(-1).values, torch.arange(3).expand(50, 3, 3))


def test_classes_and_their_labels_are_equally_likely() -> None:
    # Ordered choices: which classes a task has and which label each gets.
    pool = make_pool([4, 9, 5, 20, 6])
    drawn = draw_tasks(0, 0, torch.arange(6000), pool, EpisodeShape(3, 1, 1))
    assert uniform_choices(drawn.class_id - 100, 5)


def test_support_and_query_images_are_equally_likely() -> None:
    pool = make_pool([5, 4, 5, 4, 5])
    drawn = draw_tasks(0, 0, torch.arange(4000), pool, EpisodeShape(3, 1, 2))
    place = places(drawn, pool)  # (4000, 3, 3)
    for c, size in enumerate([5, 4, 5, 4, 5]):
        assert uniform_choices(place[drawn.class_id == 100 + c], size)
    for label in range(3):
        assert uniform_choices(place[:, label][drawn.class_id[:, label] % 2 == 0], 5)


def test_classes_of_a_task_draw_their_images_independently() -> None:
    pool = make_pool([4] * 4)
    drawn = draw_tasks(0, 0, torch.arange(6000), pool, EpisodeShape(2, 1, 1))
    place = places(drawn, pool)
    for a, b in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        assert is_uniform(as_cell(torch.stack([place[:, 0, a], place[:, 1, b]], dim=-1), 4), 16)
    class_and_image = torch.stack([drawn.class_id[:, 0] - 100, place[:, 0, 0]], dim=-1)
    assert is_uniform(as_cell(class_and_image, 4), 16)


def test_a_task_stays_in_its_group() -> None:
    groups = [3, 8, 5]
    pool = make_pool([4] * sum(groups), groups=groups)
    drawn = draw_tasks(0, 0, torch.arange(9000), pool, EpisodeShape(3, 1, 1))
    group_of = torch.repeat_interleave(torch.arange(3), torch.tensor(groups))
    group = group_of[drawn.class_id - 100]  # (9000, 3)
    assert bool((group == group[:, :1]).all())
    assert is_uniform(group[:, 0], 3)
    places(drawn, pool)
    for g, size in enumerate(groups):
        within = drawn.class_id[group[:, 0] == g] - 100 - sum(groups[:g])  # (about 3000, 3)
        for label in range(3):
            assert is_uniform(within[:, label], size)
        if size == 3:
            assert uniform_choices(within, 3)


def test_support_and_query_come_from_different_halves() -> None:
    sizes, halves = [5, 9, 4, 7], [2, 6, 2, 2]
    pool = make_pool(sizes, halves=halves)
    drawn = draw_tasks(0, 0, torch.arange(4000), pool, EpisodeShape(3, 1, 2))
    place = places(drawn, pool)  # (4000, 3, 3)
    assert all_distinct(place)
    in_second = place >= torch.tensor(halves)[drawn.class_id - 100].unsqueeze(-1)
    swapped = in_second[..., 0]  # (4000, 3)
    assert bool((in_second[..., 1:] == ~swapped.unsqueeze(-1)).all())
    assert is_uniform(as_cell(swapped.long(), 2), 8)  # each half equally often, whatever the other classes do
    for c, (size, half) in enumerate(zip(sizes, halves, strict=True)):
        mine = drawn.class_id == 100 + c
        assert is_uniform(swapped[mine].long(), 2)
        first, second = place[mine & ~swapped], place[mine & swapped]  # (n, 3): support first
        assert is_uniform(first[:, 0], half)
        assert uniform_choices(first[:, 1:] - half, size - half)
        assert is_uniform(second[:, 0] - half, size - half)
        assert uniform_choices(second[:, 1:], half)


def test_a_task_does_not_depend_on_the_others() -> None:
    shape = EpisodeShape(3, 1, 2)
    for pool in (make_pool([9] * 12, groups=[4, 8]), make_pool([9] * 12, halves=[4] * 12)):
        together = draw_tasks(5, 1, torch.arange(200), pool, shape)
        some = torch.tensor([199, 3, 3, 77])
        for mine, theirs in zip(draw_tasks(5, 1, some, pool, shape), together, strict=True):
            assert torch.equal(mine, theirs[some])


def test_seeds_and_splits_draw_other_tasks() -> None:
    pool, shape, task_id = make_pool([10] * 10), EpisodeShape(5, 1, 1), torch.arange(2000)
    drawn = draw_tasks(0, 0, task_id, pool, shape)
    for other in (draw_tasks(1, 0, task_id, pool, shape), draw_tasks(0, 1, task_id, pool, shape)):
        both = torch.stack([drawn.class_id[:, 0], other.class_id[:, 0]], dim=-1) - 100
        assert is_uniform(as_cell(both, 10), 100)


def test_tasks_never_change() -> None:
    # With others here, every published result's tasks would be other tasks.
    assert DRAWS == 2
    drawn = draw_tasks(0, 2, torch.tensor([0, 10**9]), make_pool([20] * 1000), EpisodeShape(5, 1, 2))
    assert drawn.class_id.tolist() == [[676, 971, 695, 496, 907], [1066, 859, 917, 372, 247]]
    assert drawn.support.tolist() == [
        [[15560], [23529], [16090], [10718], [21797]],
        [[26089], [20500], [22073], [7356], [3981]],
    ]
    assert drawn.query.tolist() == [
        [[15578, 15564], [23527, 23542], [16087, 16082], [10699, 10716], [21800, 21815]],
        [[26092, 26102], [20506, 20519], [22076, 22075], [7355, 7369], [3995, 3984]],
    ]


def test_draw_j_of_class_c_has_a_number_of_its_own() -> None:
    n_way, n_draws, pool = 4, 5, make_pool([9] * 12)
    drawn = draw_tasks(3, 1, torch.arange(20), pool, EpisodeShape(n_way, 2, 3))
    place = places(drawn, pool)
    for task, bits in enumerate(random_bits(3, 1, torch.arange(20), 100).tolist()):
        assert (drawn.class_id[task] - 100).tolist() == reference_distinct(bits[1 : 1 + n_way], 12)
        for c in range(n_way):
            numbers = [bits[1 + 2 * n_way + j * n_way + c] for j in range(n_draws)]
            assert place[task, c].tolist() == reference_distinct(numbers, 9)


POOLS = {
    "one group": make_pool([40] * 12),
    "groups": make_pool([40] * 12, groups=[5, 7]),
    "halves": make_pool([40] * 12, halves=[17, 20, 23] * 4),
}


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("k_shot", [1, 5])
def test_more_queries_leave_the_classes_the_support_and_the_first_queries(pool: ClassPool, k_shot: int) -> None:
    few, many = (draw_tasks(0, 2, torch.arange(200), pool, EpisodeShape(5, k_shot, n)) for n in (3, 12))
    assert torch.equal(few.class_id, many.class_id)
    assert torch.equal(few.support, many.support)
    assert torch.equal(few.query, many.query[..., :3])


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_more_shots_leave_the_classes_and_the_first_shots(pool: ClassPool) -> None:
    one, five = (draw_tasks(0, 2, torch.arange(200), pool, EpisodeShape(5, k, 4)) for k in (1, 5))
    assert torch.equal(one.class_id, five.class_id)
    assert torch.equal(one.support, five.support[..., :1])
    if pool.first_half is None:  # one sequence of distinct images: what is no shot is a query
        together = [torch.cat([drawn.support, drawn.query], dim=-1) for drawn in (one, five)]
        assert torch.equal(together[0], together[1][..., :5])


def test_drawing_never_waits_for_the_device() -> None:
    # A meta tensor has no values: whatever reads one on the host, or mixes in a tensor made there, raises.
    meta = torch.device("meta")
    for pool in (make_pool([9] * 12), make_pool([9] * 12, groups=[4, 8]), make_pool([9] * 12, halves=[4] * 12)):
        drawn = draw_tasks(5, 1, torch.arange(50, device=meta), pool.to(meta), EpisodeShape(3, 1, 2))
        assert drawn.query.shape == (50, 3, 2)
        assert drawn.query.device == meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_task_does_not_depend_on_the_device() -> None:
    device = torch.device("cuda", 0)
    for pool in (make_pool([9] * 12, groups=[4, 8]), make_pool([9] * 12, halves=[4] * 12)):
        there = draw_tasks(5, 1, torch.arange(500, device=device), pool.to(device), EpisodeShape(3, 1, 2))
        here = draw_tasks(5, 1, torch.arange(500), pool, EpisodeShape(3, 1, 2))
        for mine, theirs in zip(there, here, strict=True):
            assert mine.device == device
            assert torch.equal(mine.cpu(), theirs)


@pytest.mark.parametrize("name", ["n_way", "k_shot", "n_query"])
@pytest.mark.parametrize("value", [0, -3])
def test_counts_below_one_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
        EpisodeShape(**({"n_way": 5, "k_shot": 1, "n_query": 1} | {name: value}))
