"""Tasks by their numbers: draws them from a bank's classes and looks their images up, on whichever device is asked."""

import torch
from torch import Tensor

from datamodules.episode import Episode
from datamodules.image_bank import ImageBank
from datamodules.sampling import ClassPool, EpisodeShape, draw_tasks

SPLITS = ("train", "val", "test")


class EpisodeSource:
    """The tasks of a data set's splits, each a function of its number.

    Args:
        bank: The images.
        pools: For each split its classes.
        shapes: For each split the size of its tasks.
        seeds: For each split the seed of its tasks.
    """

    def __init__(
        self, bank: ImageBank, pools: dict[str, ClassPool], shapes: dict[str, EpisodeShape], seeds: dict[str, int]
    ) -> None:
        self.bank, self.pools, self.shapes, self.seeds = bank, pools, shapes, seeds
        self._on_device: Tensor | None = None

    def episode(self, split: str, task_id: Tensor) -> Episode:
        """Draws tasks and looks their images up.

        Args:
            split: "train", "val" or "test".
            task_id: (T,) int64.

        Returns:
            An Episode of uint8 images on the device of `task_id`.
        """
        images, device, shape = self._images(task_id.device), task_id.device, self.shapes[split]
        if self.pools[split].class_id.device != device:
            self.pools[split] = self.pools[split].to(device)
        drawn = draw_tasks(self.seeds[split], SPLITS.index(split), task_id, self.pools[split], shape)
        label = torch.arange(shape.n_way, device=device).unsqueeze(1)  # (n_way, 1)
        return Episode(
            support_x=_look_up(images, drawn.support),  # (T, n_way * k_shot, C, H, W)
            support_y=label.expand(drawn.support.shape).contiguous().flatten(1),  # contiguous: so that it can be pinned
            query_x=_look_up(images, drawn.query),  # (T, n_way * n_query, C, H, W)
            query_y=label.expand(drawn.query.shape).contiguous().flatten(1),
            task_id=task_id,
            class_id=drawn.class_id.clone(),  # an inference tensor no more
        )

    def _images(self, device: torch.device) -> Tensor:
        """The bank's images on a device; the copy there is made once."""
        if self._on_device is None or self._on_device.device != device:
            self._on_device = self.bank.images.to(device)
        return self._on_device


def _look_up(images: Tensor, index: Tensor) -> Tensor:
    """The images (N, C, H, W) of these numbers (T, n_way, k): (T, n_way * k, C, H, W).

    On a CPU ten times as fast as `images[index]`, which copies byte by byte.
    """
    return images.index_select(0, index.flatten()).view(len(index), -1, *images.shape[1:])
