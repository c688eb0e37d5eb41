"""Task numbers: every one once, in order, whoever counts them."""

from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.tasks.task_stream import StreamPosition, TaskStream

# Three workers on two cores are slow, but right.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def batches(stream: TaskStream, n_batches: int | None = None, num_workers: int = 0) -> list[list[int]]:
    loader: DataLoader[Any] = DataLoader(stream, batch_size=None, num_workers=num_workers)
    return [task_id.tolist() for task_id in islice(loader, n_batches)]


def split_range(start: int, stop: int, size: int) -> list[list[int]]:
    return [list(range(a, min(a + size, stop))) for a in range(start, stop, size)]


def negated(task_id: Tensor) -> Tensor:
    return -task_id


@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize(("n_tasks", "first_task"), [(16, 0), (17, 0), (19, 8), (3, 0), (8, 8), (4, 4), (19, 5)])
def test_a_finite_stream_ends_with_a_short_batch(n_tasks: int, first_task: int, num_workers: int) -> None:
    stream = TaskStream(4, first_task, n_tasks)
    assert batches(stream, num_workers=num_workers) == split_range(first_task, n_tasks, 4)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_an_endless_stream_goes_on_from_its_first_task(num_workers: int) -> None:
    assert batches(TaskStream(6, 32), 8, num_workers) == split_range(32, 80, 6)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_a_global_batch(world_size: int, num_workers: int) -> None:
    share = 8 // world_size
    ranks = [batches(TaskStream(8, 27, rank=rank, world_size=world_size), 5, num_workers) for rank in range(world_size)]
    assert {len(batch) for rank in ranks for batch in rank} == {share}
    for b in range(5):
        assert [i for rank in ranks for i in rank[b]] == list(range(27 + 8 * b, 27 + 8 * (b + 1)))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("n_tasks", [1, 8, 9, 10, 11, 13, 15, 16])
def test_uneven_shares_hold_every_task_once(n_tasks: int, num_workers: int) -> None:
    ranks = [batches(TaskStream(8, 0, n_tasks, rank, 4), num_workers=num_workers) for rank in range(4)]
    assert sorted(i for rank in ranks for batch in rank for i in batch) == list(range(n_tasks))
    assert [] not in [batch for rank in ranks for batch in rank]
    for rank, own in enumerate(ranks):
        assert {i // 2 % 4 for batch in own for i in batch} <= {rank}


def test_materialise_stands_in_for_the_numbers() -> None:
    for num_workers in (0, 2):
        loader: DataLoader[Any] = DataLoader(
            TaskStream(3, 0, 7, materialise=negated), batch_size=None, num_workers=num_workers
        )
        assert [batch.tolist() for batch in loader] == [[0, -1, -2], [-3, -4, -5], [-6]]


def test_numbers_are_int64_and_a_stream_starts_again() -> None:
    stream = TaskStream(3, 0, 7)
    first, again = list(stream), list(stream)
    assert [task_id.dtype for task_id in first] == [torch.int64] * 3
    assert [i.tolist() for i in first] == [i.tolist() for i in again]


def test_a_stream_goes_on_in_batches_of_another_size() -> None:
    position = StreamPosition(first_batch=0, first_task=0, batch_size=4)
    drawn = position.task_of(5)
    assert drawn == 20
    position = StreamPosition(first_batch=5, first_task=drawn, batch_size=3)
    assert [position.task_of(batch) for batch in (5, 6, 7)] == [20, 23, 26]
