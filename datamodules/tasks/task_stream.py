"""The task numbers that loaders emit; the data module turns them into episodes."""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

# Each worker has a share of its own here, and a stream goes on in the middle of an epoch.
warnings.filterwarnings("ignore", message=r".*Your `IterableDataset` has `__len__` defined")
warnings.filterwarnings("ignore", message=r".*resuming from a checkpoint that ended before the epoch ended")


class StreamPosition(NamedTuple):
    """Where training's stream of tasks is: which task a batch begins with.

    Attributes:
        first_batch: The batches trained on before, which may have had another size.
        first_task: The task that the next batch begins with.
        batch_size: Tasks of a batch from there on, over all ranks.
    """

    first_batch: int
    first_task: int
    batch_size: int

    def task_of(self, batch: int) -> int:
        """The task that a batch begins with."""
        return self.first_task + (batch - self.first_batch) * self.batch_size


class TaskStream(IterableDataset):
    """Batches of task numbers for one rank.

    Batch b of all ranks together is [first_task + b * batch_size, first_task + (b + 1) * batch_size); each rank takes
    its own contiguous share of it. So the global batch is the same for any number of ranks, and no task is seen twice.

    Args:
        batch_size: Tasks of a batch over all ranks.
        first_task: Where to begin, e.g. after a resume; a function is asked anew by every epoch.
        n_tasks: Where to end; None is an endless stream. The last batch may be shorter, and a rank's share of it empty.
        rank: This process's rank.
        world_size: Number of processes; divides `batch_size`.
        materialise: Where given, turns task numbers (T,) into what is emitted in their place, in the loader's workers.

    Attributes:
        n_batches: Batches from the first one on that an epoch ends after, and the stream with it; None: `n_tasks` says.
    """

    def __init__(
        self,
        batch_size: int,
        first_task: int | Callable[[], int] = 0,
        n_tasks: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        materialise: Callable[[Tensor], Any] | None = None,
    ) -> None:
        self.batch_size, self.first_task, self.n_tasks = batch_size, first_task, n_tasks
        self.rank, self.world_size, self.materialise = rank, world_size, materialise
        self.n_batches: int | None = None

    def __len__(self) -> int:
        """The number of batches, so that a Trainer can take a share of them.

        Raises:
            TypeError: If the stream has no end, or ranks have different shares of it.
        """
        if self.n_batches is not None:
            return self.n_batches
        if self.n_tasks is None or self.world_size > 1:
            raise TypeError("this stream of tasks has no length")
        return -(-self.n_tasks // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first = self.first_task() if callable(self.first_task) else self.first_task
        # A DataLoader asks its workers in turn, so worker w's batches w, w + W, ... come out in order.
        batch, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        share = self.batch_size // self.world_size
        while batch < (math.inf if self.n_batches is None else self.n_batches):
            start = first + batch * self.batch_size + self.rank * share
            stop = start + share
            if self.n_tasks is not None:
                if first + batch * self.batch_size >= self.n_tasks:
                    return
                stop = min(stop, self.n_tasks)
            if start < stop:
                task_id = torch.arange(start, stop)
                yield task_id if self.materialise is None else self.materialise(task_id)
            batch += stride
