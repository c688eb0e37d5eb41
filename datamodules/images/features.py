"""The features that a frozen backbone gives of a split's images, computed once and cached as image banks are."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from datamodules.images.bank import ImageBank
from datamodules.images.cache import fingerprint, load_or_build, user_cache
from datamodules.progress import progress
from datamodules.tasks.sampling import ClassPool, Drawn

FORMAT_VERSION = 1  # raise it where features are computed another way, so that old caches are left behind
AT_ONCE = 512  # images read and handed to the backbone


class Embedding(Protocol):
    """What a learner hands over: its frozen backbone, seen from here."""

    @property
    def embed(self) -> Callable[[Tensor], Tensor]:
        """From images (B, C, H, W) in float32, on any device, to features (B, D) in float32."""

    @property
    def key(self) -> Callable[[], str]:
        """Names the backbone and the weights that it has when asked."""


@dataclass(frozen=True)
class SplitFeatures:
    """The features of one split's images.

    Attributes:
        values: (n, D) float32.
        place: (N,) int64: where in `values` each of the bank's images is; -1 for those of other splits.
    """

    values: Tensor
    place: Tensor

    def to(self, device: torch.device) -> "SplitFeatures":
        """The same on a device."""
        if self.values.device == device:
            return self
        return SplitFeatures(self.values.to(device), self.place.to(device))

    def places(self, drawn: Drawn) -> Drawn:
        """Tasks drawn by images' numbers in the bank, by their places here."""
        return drawn._replace(support=self.place[drawn.support], query=self.place[drawn.query])


def load_features(
    bank: ImageBank,
    pool: ClassPool,
    name: str,
    embedding: Embedding,
    normalise: Callable[[Tensor], Tensor],
) -> SplitFeatures:
    """Loads the features of a split's images from the cache, or computes and caches them.

    Args:
        bank: The images.
        pool: The split's classes.
        name: The data set's and the split's, readable.
        embedding: The frozen backbone.
        normalise: From uint8 images to what the backbone takes.
    """
    ranges = [torch.arange(a, a + n) for a, n in zip(pool.class_start.tolist(), pool.class_size.tolist(), strict=True)]
    images = torch.cat(ranges).sort().values  # (n,) numbers in the bank
    place = torch.full((len(bank.images),), -1)
    place[images] = torch.arange(len(images))
    chosen = _digest(images)
    sample = normalise(bank.images[images[:2]])  # stands for how images are scaled
    scaling = _digest(sample)
    key = fingerprint(FORMAT_VERSION, _content(bank), chosen, scaling, embedding.key())
    folder = user_cache() if bank.cached is None else bank.cached.parent

    def build() -> ImageBank:
        # The cache keeps banks of bytes: an image's features are written as such.
        rows = _computed(bank, images, name, embedding, normalise).view(torch.uint8)  # (n, 4 * D)
        return ImageBank.from_sizes(rows[:, :, None, None], ["features"], [len(images)])

    stored = load_or_build(folder, f"{name.replace(' ', '-').lower()}-features", key, build).images  # (n, 4 * D, 1, 1)
    return SplitFeatures(stored.flatten(1).view(torch.float32), place)


def _content(bank: ImageBank) -> list[object]:
    """What tells a bank's images from others: its cache's name, which is made of its sources, else the images."""
    if bank.cached is not None:
        return [bank.cached.name, list(bank.images.shape)]
    return [_digest(bank.images), list(bank.images.shape)]


def _digest(values: Tensor) -> str:
    return hashlib.blake2b(values.contiguous().numpy().data, digest_size=16).hexdigest()


def _computed(
    bank: ImageBank, images: Tensor, name: str, embedding: Embedding, normalise: Callable[[Tensor], Tensor]
) -> Tensor:
    """The features (n, D) of these images (n,)."""
    parts = []
    with progress(f"{name}: features of the frozen backbone", len(images)) as done:
        for numbers in images.split(AT_ONCE):
            parts.append(embedding.embed(normalise(bank.images[numbers])).cpu())  # (AT_ONCE, D)
            done(len(numbers))
    return torch.cat(parts)
