"""Omniglot as the data benchmarks use it: rotations as classes, and its images as other libraries take them."""

from pathlib import Path

import torch
from torch import Tensor

from datamodules import Omniglot
from datamodules.images.bank_data import BankDataModule
from datamodules.settings import Loading


def omniglot(folder: Path, n_way: int = 5, k_shot: int = 1, n_query: int = 1) -> Omniglot:
    """Omniglot from a folder that holds `omniglot/`, its images on the device."""
    data = Omniglot(n_way, k_shot, n_query, root=str(folder), download=False, loading=Loading(images_on="device"))
    data.setup("fit")
    return data


def split_images(data: BankDataModule, split: str) -> tuple[Tensor, Tensor]:
    """A split's images, normalised, (N, C, H, W) float32, and their classes, (N,) int64 from 0."""
    assert data.bank is not None
    classes = data.pools[split].class_id.cpu()
    sizes = data.bank.class_size[classes]
    numbers = [torch.arange(size) + start for start, size in zip(data.bank.class_start[classes], sizes, strict=True)]
    labels = torch.arange(len(classes)).repeat_interleave(sizes)
    return data.normalise(data.bank.images[torch.cat(numbers)]), labels
