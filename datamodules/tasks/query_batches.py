"""A user's query images in batches, each an Episode of the one task."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from datamodules.episode import Episode, Task


class QueryBatches(IterableDataset):
    """This rank's share of the batches of `SupportQuery.predict_dataloader`.

    Args:
        task: The one task, of images (1, S, C, H, W) uint8.
        query: (N, C, H, W) uint8.
        labels: (N,) int64.
        batch_size: Queries of a batch.
        rank: This process's rank.
        world_size: Number of processes.
    """

    def __init__(self, task: Task, query: Tensor, labels: Tensor, batch_size: int, rank: int, world_size: int) -> None:
        self.task, self.query, self.labels, self.batch_size = task, query, labels, batch_size
        self.starts = range(rank * batch_size, len(query), world_size * batch_size)

    def __iter__(self) -> Iterator[Episode]:
        for start in self.starts:
            chosen = slice(start, start + self.batch_size)
            yield Episode(
                task=self.task,
                query_x=self.query[chosen].unsqueeze(0),  # (1, Q, C, H, W)
                query_y=self.labels[chosen].unsqueeze(0),
                task_id=torch.tensor([start]),
            )
