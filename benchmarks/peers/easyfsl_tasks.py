"""easyfsl's TaskSampler in a DataLoader over images in memory, as its notebooks write it."""

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

NAME = "easyfsl TaskSampler"
TASKS_PER_PASS = 100_000  # of the DataLoader; then another pass begins


def make_batches(
    images: Tensor, labels: Tensor, n_way: int, k_shot: int, n_query: int, n_tasks: int, device: torch.device
) -> Callable[[], object]:
    """Returns what draws T tasks, each a support and a query set: its training loop takes them one by one.

    Without workers: with two on two cores it drew 476 tasks/s instead of 3,104, because sending a task costs more than
    indexing memory.

    Args:
        images: (N, C, H, W) float32 on the CPU, normalised already, which spares it a pass over the images.
        labels: (N,) int64.
        n_way: Classes of a task.
        k_shot: Support images of a class.
        n_query: Query images of a class.
        n_tasks: T.
        device: Where the tasks go, as its notebooks send them.

    Raises:
        ModuleNotFoundError: If easyfsl is not installed.
    """
    tasks = endless_tasks(images, labels, (n_way, k_shot, n_query), device.type == "cuda")
    return lambda: [
        [field.to(device) if isinstance(field, Tensor) else field for field in next(tasks)] for _ in range(n_tasks)
    ]


def endless_tasks(images: Tensor, labels: Tensor, shape: tuple[int, int, int], pin_memory: bool) -> Iterator[Any]:
    """Its DataLoader's tasks: (support images, support labels, query images, query labels, class numbers)."""
    from easyfsl.datasets import FewShotDataset
    from easyfsl.samplers import TaskSampler

    numbers = labels.tolist()

    class Images(FewShotDataset):
        def __getitem__(self, item: int) -> tuple[Tensor, int]:
            return images[item], numbers[item]

        def __len__(self) -> int:
            return len(images)

        def get_labels(self) -> list[int]:
            return numbers

    class TakesDataSource:
        def __init__(self, data_source: None) -> None:
            pass

    # easyfsl 1.5 hands torch's Sampler an argument that torch 2.11 has no more.
    compatible_sampler = type("CompatibleSampler", (TaskSampler, TakesDataSource), {})
    dataset = Images()
    sampler = compatible_sampler(dataset, *shape, TASKS_PER_PASS)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=sampler,
        pin_memory=pin_memory,
        collate_fn=sampler.episodic_collate_fn,
    )
    return chain.from_iterable(repeat(loader))
