"""CIFAR-100's two few-shot splits: CIFAR-FS over classes, FC100 over superclasses."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.images.augmentation import Augmentation
from datamodules.images.bank import ImageBank
from datamodules.images.bank_data import BankDataModule
from datamodules.images.cache import fingerprint, load_or_build, user_cache
from datamodules.images.image_lists import read_json
from datamodules.images.input_spec import InputSpec
from datamodules.settings import Evaluation, Loading
from datamodules.tasks.task_sizes import Count

LISTS = Path(__file__).parents[1] / "splits"
SIZE = 32
IMAGES_PER_CLASS = 600
FORMAT_VERSION = 1  # raise it with every change of the bank, so that old caches are left behind


class CIFAR100(BankDataModule):
    """The 60,000 images of CIFAR-100, 32x32, training and test images together; a subclass names the split.

    Args:
        n_way: Classes in a training task; two numbers, as in [5, 20]: drawn anew for every batch.
        k_shot: Support examples of each class in a training task; two numbers: drawn anew for every batch.
        n_query: Query examples of each class in a training task.
        meta_batch_size: Tasks of one training batch over all devices, whose number must divide it; for a learner that
            trains on labelled examples, groups of these.
        evaluation: Validation and test tasks.
        loading: Where the images are kept.
        seed: Seed of the training tasks.
        augmentation: Of training tasks.
        root: The folder with cifar-100-python/, as torchvision keeps it; None: the user's cache folder.
        download: Whether to download what is missing.
    """

    images_per_class = IMAGES_PER_CLASS

    def __init__(
        self,
        n_way: Count = 5,
        k_shot: Count = 1,
        n_query: int = 15,
        meta_batch_size: int = 4,
        evaluation: Evaluation = Evaluation(),
        loading: Loading = Loading(),
        seed: int = 0,
        root: str | None = "data",
        download: bool = True,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        super().__init__(n_way, k_shot, n_query, meta_batch_size, evaluation, loading, seed, augmentation)
        self.save_hyperparameters()
        self.root = user_cache() / "cifar100" if root is None else Path(root).expanduser()
        self.download = download
        self.spec = InputSpec((3, SIZE, SIZE))
        self.image_shape = self.spec.image_shape

    def superclasses(self) -> dict[str, list[tuple[str, str]]]:
        """For each split its classes, each with its superclass."""
        raise NotImplementedError

    def build_bank(self) -> ImageBank:
        """All classes, from the cache where they are there already.

        Raises:
            ValueError: If CIFAR-100 is not there and cannot be downloaded.
        """
        key = fingerprint(FORMAT_VERSION, "cifar-100-python")
        return load_or_build(self.root, "cifar100", key, lambda: _read_bank(self.root, self.download))

    def split_classes(self, bank: ImageBank) -> dict[str, list[int]]:
        """The classes of each split's list."""
        number = {name: c for c, name in enumerate(bank.class_names)}
        return {split: [number[name] for _, name in pairs] for split, pairs in self.superclasses().items()}

    def input_spec(self) -> dict[str, Any]:
        """Returns what a user's image must be turned into."""
        return self.spec.as_dict()


class CIFARFS(CIFAR100):
    """CIFAR-FS: CIFAR-100 split over classes, 64 / 16 / 20.

    Reference:
        Bertinetto et al., "Meta-learning with Differentiable Closed-form Solvers", ICLR 2019.
    """

    def superclasses(self) -> dict[str, list[tuple[str, str]]]:
        """For each split its classes, each with its superclass."""
        return cifar_fs_lists()


class FC100(CIFAR100):
    """FC100: CIFAR-100 split over superclasses, 60 / 20 / 20 classes of 12 / 4 / 4 superclasses, which is harder.

    Reference:
        Oreshkin et al., "TADAM: Task Dependent Adaptive Metric for Improved Few-shot Learning", NeurIPS 2018.
    """

    def superclasses(self) -> dict[str, list[tuple[str, str]]]:
        """For each split its classes, each with its superclass."""
        every = [pair for pairs in cifar_fs_lists().values() for pair in pairs]
        found = {}
        for split in ("train", "val", "test"):
            names = set(read_json(LISTS / "fc100" / f"{split}.json"))
            found[split] = sorted(pair for pair in every if pair[0] in names)
        return found


def cifar_fs_lists() -> dict[str, list[tuple[str, str]]]:
    """The lists of CIFAR-FS; together they name every class of CIFAR-100 once, with its superclass."""
    lists = {split: read_json(LISTS / "cifar_fs" / f"{split}.json") for split in ("train", "val", "test")}
    return {split: [(superclass, name) for superclass, name in pairs] for split, pairs in lists.items()}


def _read_bank(root: Path, download: bool) -> ImageBank:
    from torchvision.datasets import CIFAR100 as Images  # noqa: N811  (it compares checksums before it reads pickles)

    try:
        halves = [Images(str(root), train=train, download=download) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"CIFAR-100 is not in {root.absolute()} ({str(error).splitlines()[0]}): unpack cifar-100-python.tar.gz "
            "(https://www.cs.toronto.edu/~kriz/cifar.html) there, or set data.root to the folder that has it."
        ) from error
    images = np.concatenate([half.data for half in halves])  # (60000, 32, 32, 3) uint8
    labels = np.concatenate([half.targets for half in halves])
    order = labels.argsort(kind="stable")
    sizes = np.bincount(labels, minlength=len(halves[0].classes)).tolist()
    sorted_images = torch.from_numpy(images[order]).permute(0, 3, 1, 2).contiguous()  # (60000, 3, 32, 32)
    return ImageBank.from_sizes(sorted_images, halves[0].classes, sizes)
