"""A data set in memory whose images tell which they are, for tests of what reaches a model."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_leaves_with_path, tree_map, tree_structure

from datamodules.episode import Episode
from datamodules.images.bank import ImageBank
from datamodules.images.bank_data import BankDataModule
from datamodules.settings import Evaluation

SIZES = [5 + c % 4 for c in range(24)]
SPLIT_CLASSES = {"train": list(range(3, 15)), "val": [0, 2, 22, 23], "test": [1, *range(15, 22)]}


class NumberedImages(BankDataModule):
    """24 classes of 5 to 8 images; an image's first two pixels spell its number in the bank."""

    def build_bank(self) -> ImageBank:
        n_images = sum(SIZES)
        images = torch.full((n_images, 1, 2, 2), 255, dtype=torch.uint8)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = torch.arange(n_images) // 100, torch.arange(n_images) % 100
        return ImageBank.from_sizes(images, [f"class{c}" for c in range(24)], SIZES)

    def split_classes(self, bank: ImageBank) -> dict[str, list[int]]:
        return SPLIT_CLASSES


def make_data(**changes: Any) -> NumberedImages:
    evaluation = Evaluation(n_way=4, n_query=3, n_val_tasks=13, n_test_tasks=7, batch_size=2)
    arguments: dict[str, Any] = {"n_way": 3, "k_shot": 2, "n_query": 1, "meta_batch_size": 8, "evaluation": evaluation}
    data = NumberedImages(**(arguments | changes))
    data.setup("fit")
    return data


def image_number(x: Tensor) -> Tensor:
    """Reads the numbers back: normalised images (T, n, C, H, W) to (T, n)."""
    pixels = (x * 255).round().long()
    return pixels[:, :, 0, 0, 0] * 100 + pixels[:, :, 0, 0, 1]


def assert_same(a: Episode, b: Episode) -> None:
    assert tree_structure(a) == tree_structure(b)
    for (path, mine), theirs in zip(tree_leaves_with_path(a), b.tensors(), strict=True):
        assert mine.dtype == theirs.dtype, keystr(path)
        assert torch.equal(mine, theirs), keystr(path)


def concatenated(episodes: list[Episode]) -> Episode:
    whole: Episode = tree_map(lambda *parts: torch.cat(parts), *episodes)
    return whole
