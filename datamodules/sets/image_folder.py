"""A user's own images: a folder for each class, or lists of files."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any, Literal

from datamodules.images.augmentation import Augmentation
from datamodules.images.bank import ImageBank
from datamodules.images.cache import user_cache
from datamodules.images.class_sizes import TooFew
from datamodules.images.contents import Contents
from datamodules.images.duplicates import (
    images_of_classes,
    images_of_several_classes,
    said_of_copies,
    said_of_two_labels,
)
from datamodules.images.folder_layout import Which
from datamodules.images.image_data import ImageData
from datamodules.images.image_files import ClassFiles, Listing, class_folders
from datamodules.images.image_lists import read_list
from datamodules.images.input_spec import INK, Fit, InputSpec
from datamodules.images.leaks import LeakError
from datamodules.settings import Evaluation, Loading
from datamodules.tasks.task_sizes import Count

SPLITS = ("train", "val", "test")


class ImageFolder(ImageData):
    """Images in a folder for each class, of any format that Pillow reads.

    Whole classes belong to a split: validation and test show classes that training never sees. Under `root` lie folders
    train/, val/ and test/ with the class folders of each; or the class folders themselves, which are then split by
    fraction; or the images that three lists name.

    Args:
        n_way: Classes in a training task; two numbers, as in [5, 20]: drawn anew for every batch.
        k_shot: Support examples of each class in a training task; two numbers: drawn anew for every batch.
        n_query: Query examples of each class in a training task.
        meta_batch_size: Tasks of one training batch over all devices, whose number must divide it; for a learner that
            trains on labelled examples, groups of these.
        evaluation: Validation and test tasks.
        loading: Where the images are kept.
        seed: Seed of the training tasks.
        root: The folder.
        split: "folders": train/, val/ and test/ under the root; "fraction": by `val_fraction` and `test_fraction`;
            "lists": by `train_list`, `val_list` and `test_list`; "auto": by lists where they are given, else by folders
            where all three are there, else by fraction.
        val_fraction: Share of the classes for validation.
        test_fraction: Share of the classes for test.
        split_seed: Seed of the split by fraction.
        train_list: A CSV of `filename,label` lines or a JSON file as CloserLookFewShot has it; names are relative to
            the list's folder, the root or its images/.
        val_list: The same for validation.
        test_list: The same for test.
        image_size: Side of the images in pixels.
        channels: 3: RGB; 1: grey.
        fit: Oblong images are cut to their centre square ("crop") or squeezed ("squash").
        drawings: Whether they are drawings: dark ink on light paper becomes white on black, as in Omniglot.
        strict: Whether files that are no images stop the run; otherwise they are named and left out.
        cache: Folder for the decoded images; None: the user's cache folder.
        augmentation: Of training tasks.
        classes: Which folders of folders are the classes: "top": the first ones, each with all images in it, however
            deep; "deepest": each folder that itself holds images, named by its path, as "alphabet/character"; None:
            the first ones, and a folder where that makes a difference is refused.
        too_few: Of classes with fewer images than a task takes: "refuse" names all of them; "leave_out" names them and
            takes the others. A class left out moves no other class to another split.
    """

    once = True

    def __init__(
        self,
        n_way: Count = 5,
        k_shot: Count = 1,
        n_query: int = 5,
        meta_batch_size: int = 4,
        evaluation: Evaluation = Evaluation(),
        loading: Loading = Loading(),
        seed: int = 0,
        root: str = "data/images",
        split: Literal["auto", "folders", "fraction", "lists"] = "auto",
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        train_list: str | None = None,
        val_list: str | None = None,
        test_list: str | None = None,
        image_size: int = 84,
        channels: int = 3,
        fit: Fit = "crop",
        drawings: bool = False,
        strict: bool = True,
        cache: str | None = None,
        augmentation: Augmentation = Augmentation(),
        classes: Which | None = None,
        too_few: TooFew = "refuse",
    ) -> None:
        folder = user_cache() if cache is None else Path(cache).expanduser()
        spec = InputSpec((channels, image_size, image_size), fit=fit, ink=INK if drawings else None)
        super().__init__(
            n_way, k_shot, n_query, meta_batch_size, evaluation, loading, seed, augmentation, spec, strict, folder
        )
        _check_fractions(val_fraction, test_fraction)
        lists = {"train": train_list, "val": val_list, "test": test_list}
        missing = [f"{name}_list" for name, path in lists.items() if path is None]
        if missing and (split == "lists" or len(missing) < len(lists)):
            raise ValueError(f"a split by lists needs all three: {' and '.join(missing)} is not set.")
        self.save_hyperparameters()
        self.root, self.split, self.classes, self.too_few = Path(root).expanduser(), split, classes, too_few
        self.val_fraction, self.test_fraction, self.split_seed = val_fraction, test_fraction, split_seed
        self.lists = {name: Path(path).expanduser() for name, path in lists.items() if path is not None}

    def find_files(self) -> Listing:
        """The files under the root or on the lists.

        Raises:
            ValueError: If they are not there.
        """
        match self._kind():
            case "lists":
                return Listing.of_splits({name: self._listed(path) for name, path in self.lists.items()})
            case "folders":
                return Listing.of_splits({name: class_folders(self.root / name, self.classes) for name in SPLITS})
        classes = class_folders(self.root, self.classes)
        return Listing(tuple(classes), self._by_fraction([entry.name for entry in classes]))

    def look_over(self, bank: ImageBank, contents: Contents) -> list[str]:
        """Names files that were left out as copies of others of their class, and images in two classes.

        Raises:
            LeakError: If an image is in two classes, unless evaluation.leaks is "warn".
        """
        if copies := [(same, copy) for copy, same in bank.left_out if same >= 0]:
            self.say(f"ImageFolder: {said_of_copies(copies, lambda number: str(self.file(number)))}")
        warn = self.evaluation.leaks == "warn"
        splits = [set(classes) for classes in self.listing.splits.values()]
        position, owner = images_of_classes(bank, range(len(bank.class_names)))
        pairs = []
        for one, other in images_of_several_classes(contents.digest[position], owner):
            first, second = int(owner[one]), int(owner[other])
            together = any({first, second} <= split for split in splits)
            # Classes of one name in two splits are a leak of classes; a warning of several splits is the leaks' own.
            if together or (not warn and bank.class_names[first] != bank.class_names[second]):
                pairs.append((int(position[one]), int(position[other])))
        if not pairs:
            return []
        found = said_of_two_labels(pairs, partial(self.image_name, bank))
        if not warn:
            raise LeakError(
                f"{found}. Correct the labels, or remove the files; data.evaluation.leaks = warn keeps them in both "
                "classes, and the results say so."
            )
        self.say(f"warning: {found}")
        return [found]

    def protocol(self) -> dict[str, Any]:
        """The task that is evaluated, as a result must state it."""
        kind = self._kind()
        by_seed = {"split_seed": self.split_seed} if kind == "fraction" else {}
        classes = {"classes": self.classes} if self.classes is not None else {}
        return {**super().protocol(), "root": self.root.name, "split": kind, **by_seed, **classes}

    def _kind(self) -> str:
        if self.split != "auto":
            return self.split
        if self.lists:
            return "lists"
        there = [name for name in SPLITS if (self.root / name).is_dir()]
        if 0 < len(there) < len(SPLITS) and "train" in there:
            missing = " and ".join(f"{name}/" for name in SPLITS if name not in there)
            raise ValueError(
                f"{self.root} has {' and '.join(f'{name}/' for name in there)} but no {missing}: add {missing}, or set "
                "data.split to fraction and data.classes to top where these are classes."
            )
        return "folders" if there == list(SPLITS) else "fraction"

    def _listed(self, path: Path) -> list[ClassFiles]:
        return read_list(path, [path.parent, path.parent / "images", self.root, self.root / "images"])

    def _by_fraction(self, names: list[str]) -> dict[str, list[int]]:
        """Positions of the classes of each split; each has one at least.

        Classes are ranked by a hash of seed and name, so that a class more or less moves few others.
        """
        n_classes = len(names)
        if n_classes < len(SPLITS):
            raise ValueError(
                f"{self.root} holds {n_classes} class folder{'s' if n_classes > 1 else ''}: training, validation and "
                "test need classes of their own. (To classify with a trained model: predict --data SupportQuery.)"
            )
        rank = [
            hashlib.blake2b(f"{self.split_seed} {name}".encode("utf-8", "surrogateescape")).digest() for name in names
        ]
        shuffled = sorted(range(n_classes), key=rank.__getitem__)
        n_val, n_test = (max(1, round(share * n_classes)) for share in (self.val_fraction, self.test_fraction))
        held_out = n_val + n_test
        parts = (shuffled[held_out:], shuffled[:n_val], shuffled[n_val:held_out])
        return {name: sorted(part) for name, part in zip(SPLITS, parts, strict=True)}


def _check_fractions(val: float, test: float) -> None:
    if not (val > 0 and test > 0 and val + test < 1):
        raise ValueError(
            f"val_fraction = {val} and test_fraction = {test} must be above 0 and leave classes for training."
        )
