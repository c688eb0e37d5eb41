"""The image bank: all images of a data set in one uint8 tensor, cached as a memory-mapped file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

QUARTER_TURNS = ("rot000", "rot090", "rot180", "rot270")


@dataclass(frozen=True)
class ImageBank:
    """The images of a data set, sorted by class.

    Attributes:
        images: (N, C, H, W) uint8, the images of one class next to each other; memory-mapped when it comes from the
            cache (a private mapping: writing to it changes neither the file nor another process's view).
        class_names: one name per class, e.g. "Korean/character07".
        class_start: (n_classes,) int64; class c is `images[class_start[c] : class_start[c] + class_size[c]]`.
        class_size: (n_classes,) int64.
        first_half: (n_classes,) int64, or None. Where given, an episode's support comes from the first
            `first_half[c]` images of class c and its query from the rest, or the other way round.
        cached: the cache's folder that the images come from, or None.
        turns: 4 where classes turned by quarter turns follow the unturned ones, else 1; the first N / turns images and
            n_classes / turns classes are the unturned ones.
        left_out: of the files that the bank is made from those that are not in it, by their positions: each with the
            position of the file of its class that has the same content; -1: it could not be read.
    """

    images: Tensor
    class_names: tuple[str, ...]
    class_start: Tensor
    class_size: Tensor
    first_half: Tensor | None = None
    cached: Path | None = None
    turns: int = 1
    left_out: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"ImageBank images must be a uint8 tensor (N, C, H, W), "
                f"got {self.images.dtype} {tuple(self.images.shape)}"
            )
        count = len(self.class_names)
        if self.class_start.shape != (count,) or self.class_size.shape != (count,):
            raise ValueError(
                f"ImageBank got {count} class names, but class_start of shape {tuple(self.class_start.shape)} and "
                f"class_size of shape {tuple(self.class_size.shape)}; give one of each per class"
            )
        if count and (
            int(self.class_size.min()) < 1
            or int(self.class_start.min()) < 0
            or int((self.class_start + self.class_size).max()) > len(self.images)
        ):
            raise ValueError(f"ImageBank classes must each hold images 0 to {len(self.images) - 1}, at least one")
        half = self.first_half
        if half is not None and not (
            half.shape == (count,) and bool((half >= 1).all()) and bool((half < self.class_size).all())
        ):
            raise ValueError("ImageBank first_half must leave every class at least one image in each half")

    @classmethod
    def from_sizes(
        cls, images: Tensor, class_names: Sequence[str], sizes: Sequence[int], first_half: Sequence[int] | None = None
    ) -> ImageBank:
        """Makes a bank of images sorted by class.

        Args:
            images: (N, C, H, W) uint8.
            class_names: one per class, in the order of the images.
            sizes: how many images each class has; they sum to N.
            first_half: the images in each class's first half, or None.
        """
        size = torch.tensor(sizes, dtype=torch.int64)  # (n_classes,)
        if int(size.sum()) != len(images):
            raise ValueError(f"ImageBank got {len(images)} images, but class sizes that sum to {int(size.sum())}")
        half = None if first_half is None else torch.tensor(first_half, dtype=torch.int64)
        return cls(images, tuple(class_names), size.cumsum(0) - size, size, half)

    def rotated(self) -> ImageBank:
        """Counts rotations by 0, 90, 180 and 270 degrees as new classes.

        Class c turned by r quarter turns becomes class r * n_classes + c, named "NAME/rot000" ... "NAME/rot270" as in
        the Vinyals lists; so the first n_classes classes are the unturned ones, in their old order.

        Returns:
            A bank of 4 * n_classes classes and 4 * N images, held in memory (not mapped).
        """
        height, width = self.images.shape[2:]
        if height != width:
            raise ValueError(f"rotations as classes need square images, got {height}x{width}")
        turns = range(len(QUARTER_TURNS))
        images = torch.cat([torch.rot90(self.images, turn, (2, 3)) for turn in turns])  # (4 * N, C, H, W)
        return ImageBank(
            images,
            tuple(f"{name}/{turn}" for turn in QUARTER_TURNS for name in self.class_names),
            torch.cat([self.class_start + turn * len(self.images) for turn in turns]),  # (4 * n_classes,)
            self.class_size.repeat(4),
            None if self.first_half is None else self.first_half.repeat(4),
            self.cached,
            len(turns),
            self.left_out,
        )
