"""A user's query images in batches, each an Episode of the one task."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from datamodules.episode import Episode, Support


class QueryBatches(IterableDataset):
    """This rank's share of the batches of `SupportQuery.predict_dataloader`.

    Args:
        support: Images (S, C, H, W) uint8 and labels (S,).
        query: (N, C, H, W) uint8.
        labels: (N,) int64.
        batch_size: Queries of a batch.
        rank: This process's rank.
        world_size: Number of processes.
    """

    def __init__(
        self, support: Support, query: Tensor, labels: Tensor, batch_size: int, rank: int, world_size: int
    ) -> None:
        self.support, self.query, self.labels, self.batch_size = support, query, labels, batch_size
        self.starts = range(rank * batch_size, len(query), world_size * batch_size)

    def __iter__(self) -> Iterator[Episode]:
        for start in self.starts:
            chosen = slice(start, start + self.batch_size)
            yield Episode(
                support_x=self.support.x.unsqueeze(0),  # (1, S, C, H, W)
                support_y=self.support.y.unsqueeze(0),
                query_x=self.query[chosen].unsqueeze(0),  # (1, Q, C, H, W)
                query_y=self.labels[chosen].unsqueeze(0),
                task_id=torch.tensor([start]),
                class_id=self.support.y.unique().unsqueeze(0),  # (1, n_way)
            )
