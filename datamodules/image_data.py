"""The base of the data sets that are image files."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from datamodules.augmentation import Augmentation
from datamodules.bank_cache import fingerprint, load_or_build
from datamodules.bank_data import BankDataModule
from datamodules.image_bank import ImageBank
from datamodules.image_files import Listing, read_bank
from datamodules.input_spec import InputSpec
from datamodules.pools import check_class_count
from datamodules.settings import Evaluation, Loading
from datamodules.task_sizes import Count

FORMAT_VERSION = 1  # raise it with every change of the decoding, so that old caches are left behind


class ImageData(BankDataModule):
    """Episodes from image files; a data set says which files there are and how they are split.

    Args:
        n_way: Classes in a training task; two numbers, as in [5, 20]: drawn anew for every batch.
        k_shot: Support examples of each class in a training task; two numbers: drawn anew for every batch.
        n_query: Query examples of each class in a training task.
        meta_batch_size: Tasks of one training batch over all devices; their number must divide it.
        evaluation: Validation and test tasks.
        loading: Where the images are kept.
        seed: Seed of the training tasks.
        augmentation: Of training tasks.
        spec: What the files are turned into.
        strict: Whether files that are no images stop the run; otherwise they are named and left out.
        cache: Folder for the decoded images.
    """

    once = False  # whether files of a class that have the same content count as one

    def __init__(
        self,
        n_way: Count,
        k_shot: Count,
        n_query: int,
        meta_batch_size: int,
        evaluation: Evaluation,
        loading: Loading,
        seed: int,
        augmentation: Augmentation,
        spec: InputSpec,
        strict: bool,
        cache: Path,
    ) -> None:
        super().__init__(n_way, k_shot, n_query, meta_batch_size, evaluation, loading, seed, augmentation)
        self.spec, self.strict, self.cache = spec, strict, cache
        self.image_shape = spec.image_shape
        self._listing: Listing | None = None

    def read_at(self, image_shape: tuple[int, int, int]) -> None:
        """Reads the files with other channels and at another size from now on."""
        self.spec, self.image_shape = replace(self.spec, image_shape=image_shape), image_shape

    def find_files(self) -> Listing:
        """The data set's files.

        Raises:
            ValueError: If they are not there.
        """
        raise NotImplementedError

    def build_bank(self) -> ImageBank:
        """All images, from the cache where they are there already."""
        listing, name = self.listing, type(self).__name__
        for split, classes in listing.splits.items():  # before minutes of decoding
            check_class_count(len(classes), self.shapes[split], f"the {split} split")
        listed = ["left_out"] if self.once or not self.strict else []  # the cache says which files are not in the bank
        key = fingerprint(FORMAT_VERSION, asdict(self.spec), self.strict, listing.stamps(), *listed)
        readable = f"{name.lower()}-{self.image_shape[1]}"
        return load_or_build(
            self.cache, readable, key, lambda: read_bank(listing.classes, self.spec, name, self.strict, self.once)[0]
        )

    def file(self, number: int) -> Path:
        """The file of this number, counted through all classes."""
        for entry in self.listing.classes:
            if number < len(entry.paths):
                return entry.paths[number]
            number -= len(entry.paths)
        raise IndexError(number)

    def image_name(self, bank: ImageBank, image: int) -> str:
        """The file that an image of the bank comes from."""
        for left_out, _ in bank.left_out:  # in the order of the files
            image += left_out <= image
        return str(self.file(image))

    def split_classes(self, bank: ImageBank) -> dict[str, list[int]]:
        """The classes of each split."""
        return self.listing.splits

    @property
    def listing(self) -> Listing:
        """The files, looked for once."""
        if self._listing is None:
            self._listing = self.find_files()
        return self._listing

    def input_spec(self) -> dict[str, Any]:
        """What a user's image must be turned into."""
        return self.spec.as_dict()
