"""Omniglot: 1,623 handwritten characters of 50 alphabets, 20 drawings each."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from datamodules.images.augmentation import Augmentation
from datamodules.images.bank import QUARTER_TURNS, ImageBank
from datamodules.images.bank_data import BankDataModule
from datamodules.images.cache import fingerprint, load_or_build, user_cache
from datamodules.images.download import download
from datamodules.images.input_spec import INK, Filter, InputSpec
from datamodules.progress import progress
from datamodules.sets.omniglot.source import (
    DRAWINGS_PER_CHARACTER,
    PARTS,
    Drawing,
    Part,
    check_drawings,
    decode,
    find_parts,
)
from datamodules.settings import Evaluation, Loading
from datamodules.tasks.task_sizes import Count

ADDRESS = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
MD5 = {
    "images_background": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
}
CLASS_LISTS = Path(__file__).parents[2] / "splits"
BATCH = 100  # drawings that a thread decodes at once: one at a time, handing over would cost as much as decoding
FORMAT_VERSION = 1  # raise it with every change of the decoding, so that old caches are left behind


class Omniglot(BankDataModule):
    """Omniglot, 28x28 pixels unless told otherwise, ink 1 on 0.

    Lies under `root` as the official folders images_background/ and images_evaluation/, or as the two zips, which are
    read without unpacking.

    Args:
        n_way: Classes in a training task; two numbers, as in [5, 20]: drawn anew for every batch.
        k_shot: Support examples of each class in a training task; two numbers: drawn anew for every batch.
        n_query: Query examples of each class in a training task.
        meta_batch_size: Tasks of one training batch over all devices, whose number must divide it; for a learner that
            trains on labelled examples, groups of these.
        evaluation: Validation and test tasks.
        loading: Where the images are kept.
        seed: Seed of the training tasks.
        root: Folder of Omniglot, or of a folder omniglot/ or omniglot-py/ with it; None: the user's cache folder.
        split: "vinyals": 1,028 / 172 / 423 characters over all alphabets. "vinyals_trainval": training has the
            validation characters too, 1,200, as in the ProtoNet paper; validation then says nothing, and
            `evaluation.leaks` must be "warn". "lake": Lake's background alphabets for training (25) and validation (5),
            his evaluation alphabets (20) for test. "within_alphabet": the same, and all classes of a task come from one
            alphabet, which is harder.
        rotations: Whether a character turned by 90, 180 and 270 degrees counts as three more classes: in "all" splits
            (MAML, ProtoNet), in "train" alone (Reptile), or in "none".
        image_size: Side of the images in pixels.
        resize: "nearest": one pixel of the drawing for each of the smaller image, all or no ink, which is what the
            scripts of MAML, Reptile and ProtoNet come to; "lanczos": antialiased, strokes stay whole, in grey.
        download: Whether to download what is missing.
        augmentation: Random changes of the images of training tasks.
    """

    images_per_class = DRAWINGS_PER_CHARACTER

    def __init__(
        self,
        n_way: Count = 5,
        k_shot: Count = 1,
        n_query: int = 1,
        meta_batch_size: int = 32,
        evaluation: Evaluation = Evaluation(),
        loading: Loading = Loading(),
        seed: int = 0,
        root: str | None = "data",
        split: Literal["vinyals", "vinyals_trainval", "lake", "within_alphabet"] = "vinyals",
        rotations: Literal["all", "train", "none"] = "all",
        image_size: int = 28,
        resize: Literal["lanczos", "nearest"] = "lanczos",
        download: bool = True,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        super().__init__(n_way, k_shot, n_query, meta_batch_size, evaluation, loading, seed, augmentation)
        for name, value, choices in (
            ("split", split, ("vinyals", "vinyals_trainval", "lake", "within_alphabet")),
            ("rotations", rotations, ("all", "train", "none")),
            ("resize", resize, ("lanczos", "nearest")),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
        if image_size < 1:
            raise ValueError(f"image_size must be at least 1, got {image_size}.")
        self.save_hyperparameters()
        self.root = user_cache() / "omniglot" if root is None else Path(root).expanduser()
        self.split, self.rotations, self.download = split, rotations, download
        self.image_size, self.resize = image_size, resize
        self.image_shape = (1, image_size, image_size)

    def read_at(self, image_shape: tuple[int, int, int]) -> None:
        """Reads the drawings at another size from now on; they stay grey in the bank."""
        self.image_size = image_shape[1]
        self.image_shape = (1, self.image_size, self.image_size)

    def build_bank(self) -> ImageBank:
        """All characters, from the cache where they are there already; four times as many with rotations.

        Raises:
            ValueError: If Omniglot is not there and cannot be downloaded, is not whole, or a file of it is broken.
        """
        parts = located_parts(self.root, self.download)
        drawings = [(part, drawing) for part in parts for drawing in part.drawings()]
        drawings.sort(key=lambda pair: (pair[1].character, pair[1].path))
        counts = Counter(drawing.character for _, drawing in drawings)
        lists = class_lists(self.split)
        check_drawings(counts, [name for names in lists.values() for name in names], parts[0].path.parent)
        key = fingerprint(FORMAT_VERSION, self.image_size, self.resize, [drawing for _, drawing in drawings])
        name = f"omniglot-{self.image_size}"
        bank = load_or_build(self.root, name, key, lambda: read_bank(drawings, self.image_size, self.resize))
        return bank if self.rotations == "none" else bank.rotated()

    def split_classes(self, bank: ImageBank) -> dict[str, list[int]]:
        """The characters of each split's list, in the rotations that the split has."""
        return {split: list(chain(*groups.values())) for split, groups in self._alphabets(bank).items()}

    def split_groups(self, bank: ImageBank) -> dict[str, list[list[int]]] | None:
        """For within_alphabet, the classes of each alphabet; a turned alphabet counts as another one.

        Alphabets too small for n_way (the smallest has 14 characters) are left out of training and validation. Those of
        the test have 20 characters or more; a larger n_way is refused, because leaving alphabets out would make another
        test. Deviation: Lake's evaluation fixes 20 tasks of 20 ways and takes support and query from one drawer each;
        here alphabets, characters and drawers are drawn at random.
        """
        if self.split != "within_alphabet":
            return None
        groups = {split: list(alphabets.values()) for split, alphabets in self._alphabets(bank).items()}
        for split in ("train", "val"):
            large = [group for group in groups[split] if len(group) >= self.shapes[split].n_way]
            groups[split] = large or groups[split]  # none is large enough: the base says so
        return groups

    def input_spec(self) -> dict[str, Any]:
        """Returns what a user's image must be turned into."""
        return InputSpec(self.image_shape, self.resize, "squash", INK).as_dict()

    def protocol(self) -> dict[str, Any]:
        """The task that is evaluated, as a result must state it."""
        return {**super().protocol(), "split": self.split, "rotations": self.rotations, "resize": self.resize}

    def _alphabets(self, bank: ImageBank) -> dict[str, dict[tuple[str, str], list[int]]]:
        """Split -> (rotation, alphabet) -> the bank's classes."""
        index = {name: c for c, name in enumerate(bank.class_names)}
        found: dict[str, dict[tuple[str, str], list[int]]] = {}
        for split, names in class_lists(self.split).items():
            everywhere = self.rotations == "all" or (self.rotations == "train" and split == "train")
            turns = [f"/{turn}" for turn in QUARTER_TURNS] if self.rotations != "none" else [""]
            found[split] = {}
            for turn in turns if everywhere else turns[:1]:
                for name in names:
                    found[split].setdefault((turn, name.split("/")[0]), []).append(index[name + turn])
        return found


def class_lists(split: str) -> dict[str, list[str]]:
    """The characters of "train", "val" and "test", from the lists beside this file."""
    folder = CLASS_LISTS / ("omniglot_vinyals" if split.startswith("vinyals") else "omniglot_lake")
    lists = {part: (folder / f"{part}.txt").read_text("utf-8").split() for part in ("train", "val", "test")}
    return lists | {"train": sorted(lists["train"] + lists["val"])} if split == "vinyals_trainval" else lists


def located_parts(root: Path, may_download: bool) -> list[Part]:
    """Finds both parts of Omniglot, downloading what is missing.

    Raises:
        ValueError: If a part is missing and cannot be downloaded; says which file to put where.
    """
    parts = find_parts(root)
    folder = next(iter(parts.values())).path.parent if parts else root
    missing = [name for name in PARTS if name not in parts]
    reason = "data.download is false"
    if missing and may_download:
        try:
            for name in missing:
                download(f"{ADDRESS}/{name}.zip", MD5[name], folder / f"{name}.zip")
        except OSError as error:
            reason = f"the download failed: {error}"
        parts = find_parts(root)
        missing = [name for name in PARTS if name not in parts]
    if missing:
        files = " and ".join(f"{ADDRESS}/{name}.zip" for name in missing)
        raise ValueError(
            f"Omniglot is not in {root.absolute()} ({reason}): fetch {files} and put {'them' if missing[1:] else 'it'} "
            f"into {folder.absolute()}, zipped or unpacked, or set data.root to the folder that has Omniglot."
        )
    return [parts[name] for name in PARTS]


def read_bank(drawings: list[tuple[Part, Drawing]], image_size: int, resize: Filter) -> ImageBank:
    """Decodes all drawings.

    Args:
        drawings: of all characters, sorted by character.
        image_size: side of the images in pixels.
        resize: Pillow's filter.

    Returns:
        The bank, in memory, one class per character.
    """
    images = np.zeros((len(drawings), 1, image_size, image_size), np.uint8)

    def batches() -> Iterator[tuple[list[int], list[bytes]]]:
        for part in dict.fromkeys(part for part, _ in drawings):
            own = [i for i, (owner, _) in enumerate(drawings) if owner == part]
            files = part.read(drawings[i][1] for i in own)
            for start in range(0, len(own), BATCH):
                yield own[start : start + BATCH], list(islice(files, BATCH))

    def put(batch: tuple[list[int], list[bytes]]) -> int:
        for i, data in zip(*batch, strict=True):
            part, drawing = drawings[i]
            images[i, 0] = decode(data, part.place(drawing), image_size, resize)
        return len(batch[0])

    with (
        progress("Omniglot: reading drawings", len(drawings)) as advance,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for count in pool.map(put, batches()):
            advance(count)
    names = list(dict.fromkeys(drawing.character for _, drawing in drawings))
    return ImageBank.from_sizes(torch.from_numpy(images), names, [DRAWINGS_PER_CHARACTER] * len(names))
