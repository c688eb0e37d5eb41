"""Tasks by their numbers: draws them from a bank's classes and looks their images up, on whichever device is asked."""

import torch
from torch import Tensor

from datamodules.episode import Episode, Task
from datamodules.images.bank import ImageBank
from datamodules.images.features import SplitFeatures
from datamodules.tasks.examples import ExampleOrder
from datamodules.tasks.sampling import SPLITS, ClassPool, EpisodeShape, draw_tasks


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
        self._order: ExampleOrder | None = None  # of the training images, for learners that train on examples

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

    def examples(self, group_id: Tensor, group_size: int, in_features: bool = False) -> Episode:
        """Draws groups of labelled training images and looks them up; labels count all training classes.

        Args:
            group_id: (T,) int64.
            group_size: B.
            in_features: Whether to give features in place of images, where there are some.

        Returns:
            An Episode of empty support sets, whose queries are B uint8 images, or features (T, B, D), on the device of
            `group_id`.
        """
        here = group_id.to(group_id.device if self.follows_device else self.bank.images.device)
        pool = self._pool("train", here.device)
        if self._order is None:
            self._order = ExampleOrder(self.seeds["train"], int(pool.class_size.sum()))
        places = self._order.groups(here, group_size)  # (T, B), counted through the classes of the pool
        ends = pool.class_size.cumsum(0)  # (C,)
        label = torch.searchsorted(ends, places, right=True)  # (T, B)
        image = pool.class_start[label] + places - (ends - pool.class_size)[label]  # (T, B)
        features = self._features.get("train") if in_features else None
        if features is None:
            images = self._images(here.device)  # (N, C, H, W)
        else:
            features = self._features["train"] = features.to(here.device)
            images, image = features.values, features.place[image]  # (n, D)
        query_x = _look_up(images, image.unsqueeze(1))  # (T, B, C, H, W)
        nothing = Task.of(query_x[:, :0], label[:, :0], pool.class_id.repeat(len(here), 1))
        return Episode(nothing, query_x, label, here).map(lambda field: field.to(group_id.device))

    def _pool(self, split: str, device: torch.device) -> ClassPool:
        if self.pools[split].class_id.device != device:
            self.pools[split] = self.pools[split].to(device)
        return self.pools[split]

    def _drawn(self, split: str, task_id: Tensor, shape: EpisodeShape, in_features: bool) -> Episode:
        device = task_id.device
        drawn = draw_tasks(self.seeds[split], SPLITS.index(split), task_id, self._pool(split, device), shape)
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
