"""Tasks by their numbers: draws them from a bank's classes and looks their images up, on whichever device is asked."""

import torch
from torch import Tensor

from datamodules.episode import Episode, Task
from datamodules.feature_bank import SplitFeatures
from datamodules.image_bank import ImageBank
from datamodules.sampling import SPLITS, ClassPool, EpisodeShape, draw_tasks


class EpisodeSource:
    """The tasks of a data set's splits, each a function of its number.

    Args:
        bank: The images.
        pools: For each split its classes.
        seeds: For each split the seed of its tasks.

    Attributes:
        follows_device: Whether images may be copied to the device that asks for tasks; otherwise tasks are drawn where
            the images lie, and then moved. Workers that a loader forks can use nothing that lies on a GPU.
    """

    def __init__(self, bank: ImageBank, pools: dict[str, ClassPool], seeds: dict[str, int]) -> None:
        self.bank, self.pools, self.seeds = bank, pools, seeds
        self.follows_device = True
        self._on_device: Tensor | None = None
        self._features: dict[str, SplitFeatures] = {}

    def use_features(self, split: str, features: SplitFeatures | None) -> None:
        """Gives a split's features in place of its images from now on; None: images again."""
        if features is None:
            self._features.pop(split, None)
        else:
            self._features[split] = features

    def episode(self, split: str, task_id: Tensor, shape: EpisodeShape, in_features: bool = False) -> Episode:
        """Draws tasks and looks their images up.

        Args:
            split: "train", "val" or "test".
            task_id: (T,) int64.
            shape: The size of the tasks.
            in_features: Whether to give features in place of images, where there are some.

        Returns:
            An Episode of uint8 images, or of features (T, S, D), on the device of `task_id`.
        """
        here = task_id.to(task_id.device if self.follows_device else self.bank.images.device)
        episode = self._drawn(split, here, shape, in_features)
        return episode.map(lambda field: field.to(task_id.device))

    def _drawn(self, split: str, task_id: Tensor, shape: EpisodeShape, in_features: bool) -> Episode:
        device = task_id.device
        if self.pools[split].class_id.device != device:
            self.pools[split] = self.pools[split].to(device)
        drawn = draw_tasks(self.seeds[split], SPLITS.index(split), task_id, self.pools[split], shape)
        features = self._features.get(split) if in_features else None
        if features is None:
            images = self._images(device)  # (N, C, H, W)
        else:
            features = self._features[split] = features.to(device)
            images, drawn = features.values, features.places(drawn)  # (n, D)
        label = torch.arange(shape.n_way, device=device).unsqueeze(1)  # (n_way, 1)
        task = Task.of(
            x=_look_up(images, drawn.support),  # (T, n_way * k_shot, C, H, W)
            y=label.expand(drawn.support.shape).contiguous().flatten(1),  # contiguous: so that it can be pinned
            classes=drawn.class_id.clone(),  # an inference tensor no more
        )
        return Episode(
            task=task,
            query_x=_look_up(images, drawn.query),  # (T, n_way * n_query, C, H, W)
            query_y=label.expand(drawn.query.shape).contiguous().flatten(1),
            task_id=task_id,
        )

    def _images(self, device: torch.device) -> Tensor:
        """The bank's images on a device; the copy there is made once."""
        if self._on_device is None or self._on_device.device != device:
            self._on_device = self.bank.images.to(device)
        return self._on_device


def _look_up(images: Tensor, index: Tensor) -> Tensor:
    """The images (N, C, H, W), or features (N, D), of these numbers (T, n_way, k): (T, n_way * k, C, H, W).

    On a CPU ten times as fast as `images[index]`, which copies byte by byte.
    """
    return images.index_select(0, index.flatten()).view(len(index), -1, *images.shape[1:])
