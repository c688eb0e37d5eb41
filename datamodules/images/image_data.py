"""The base of the data sets that are image files."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from datamodules.images.augmentation import Augmentation
from datamodules.images.bank import ImageBank
from datamodules.images.bank_data import BankDataModule
from datamodules.images.cache import fingerprint, load_or_build
from datamodules.images.class_sizes import TooFew, images_needed, listed, refusal_of_small_classes
from datamodules.images.image_files import Listing, read_bank
from datamodules.images.input_spec import InputSpec
from datamodules.images.pools import check_class_count
from datamodules.progress import say
from datamodules.settings import Evaluation, Loading
from datamodules.tasks.task_sizes import Count

FORMAT_VERSION = 1  # raise it with every change of the decoding, so that old caches are left behind


class ImageData(BankDataModule):
    """Episodes from image files; a data set says which files there are and how they are split.

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
        self.too_few: TooFew | None = None  # None: no class may be left out, as of published data sets
        self.left_out: dict[str, dict[str, int]] = {}  # of each split the classes left out and their images

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
        """All images, from the cache where they are there already.

        Raises:
            ValueError: Before an image is read, if a split has too few classes or a class too few images.
        """
        listing, name = self.listing, type(self).__name__
        for split in self.asked_splits:  # before minutes of decoding
            self._check_class_count(split, len(listing.splits[split]))
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
        """The classes of each split; where small ones are left out, without those that lost images in reading."""
        splits = {split: list(classes) for split, classes in self.listing.splits.items()}
        if self.too_few != "leave_out":
            return splits
        for split, classes in splits.items():
            need = images_needed(self.shapes[split])[0]
            small = {c: int(bank.class_size[c]) for c in classes if bank.class_size[c] < need}
            self._leave_out(split, {bank.class_names[c]: size for c, size in small.items()})
            splits[split] = [c for c in classes if c not in small]
            self._check_class_count(split, len(splits[split]))
        return splits

    @property
    def listing(self) -> Listing:
        """The files, looked for once, without the classes that are left out for too few images.

        Raises:
            ValueError: If there are such classes and they are not to be left out; names all of them.
        """
        if self._listing is None:
            self._listing = self._with_enough_images(self.find_files())
        return self._listing

    def protocol(self) -> dict[str, Any]:
        """The task that is evaluated, as a result must state it."""
        left_out = {split: len(classes) for split, classes in self.left_out.items()}
        stated = {"classes_left_out": ", ".join(f"{split} {n}" for split, n in left_out.items())} if left_out else {}
        return {**super().protocol(), **stated}

    def _with_enough_images(self, listing: Listing) -> Listing:
        wrong, gone = [], []
        for split, positions in listing.splits.items():
            need, why = images_needed(self.shapes[split])
            if split not in self.asked_splits and self.too_few != "leave_out":
                need, why = 1, "one image"  # its tasks are not drawn
            sizes = {c: len(listing.classes[c].paths) for c in positions}
            small = [c for c, size in sizes.items() if size < need]
            named = [(listing.classes[c].name, sizes[c]) for c in small]
            if small and self.too_few == "leave_out":
                self._leave_out(split, dict(named))
                gone += small
            elif small:
                offer = "leave these classes out by data.too_few leave_out" if self.too_few else ""
                wrong.append(refusal_of_small_classes(named, len(positions), f"the {split} split", need, why, offer))
        if wrong:
            raise ValueError(" ".join(wrong))
        return listing.without(gone) if gone else listing

    def _leave_out(self, split: str, classes: dict[str, int]) -> None:
        """Notes and says that classes are left out."""
        if not classes:
            return
        self.left_out.setdefault(split, {}).update(classes)
        if self.trainer is None or self.trainer.is_global_zero:
            need, why = images_needed(self.shapes[split])
            names = listed(list(classes.items()))
            say(f"left out of the {split} split, with fewer images than the {need} of a task ({why}): {names}")

    def _check_class_count(self, split: str, count: int) -> None:
        gone = len(self.left_out.get(split, {}))
        without = f" without the {gone:,} left out" if gone else ""
        check_class_count(count, self.shapes[split], f"the {split} split{without}")

    def input_spec(self) -> dict[str, Any]:
        """Returns what a user's image must be turned into."""
        return self.spec.as_dict()
