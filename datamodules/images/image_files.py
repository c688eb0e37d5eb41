"""Image files on a disk: which class each belongs to, and from there to a bank."""

import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from datamodules.images.bank import ImageBank
from datamodules.images.cache import user_cache
from datamodules.images.contents import image_digests
from datamodules.images.decoding import BrokenImageError, decode_image, image_suffixes
from datamodules.images.duplicates import first_of_class
from datamodules.images.folder_layout import ClassFiles as ClassFiles
from datamodules.images.folder_layout import Which, arranged
from datamodules.images.input_spec import InputSpec
from datamodules.progress import progress, say

BATCH = 32  # files that a thread decodes at once: one at a time, handing over would cost as much as decoding
IN_MEMORY = 2 << 30  # bytes; a larger bank is gathered in a file
SHOWN = 3


@dataclass(frozen=True)
class Listing:
    """A data set's files.

    Args:
        classes: The classes, in the bank's order.
        splits: For "train", "val" and "test" the positions of its classes.
    """

    classes: tuple[ClassFiles, ...]
    splits: dict[str, list[int]]

    @classmethod
    def of_splits(cls, splits: dict[str, list[ClassFiles]]) -> "Listing":
        """Classes that are listed split by split."""
        classes = [entry for entries in splits.values() for entry in entries]
        first, positions = 0, {}
        for split, entries in splits.items():
            positions[split] = list(range(first, first + len(entries)))
            first += len(entries)
        return cls(tuple(classes), positions)

    def without(self, left_out: Iterable[int]) -> "Listing":
        """The listing without the classes at some positions."""
        gone = set(left_out)
        kept = [position for position in range(len(self.classes)) if position not in gone]
        new = {old: position for position, old in enumerate(kept)}
        splits = {split: [new[old] for old in positions if old in new] for split, positions in self.splits.items()}
        return Listing(tuple(self.classes[old] for old in kept), splits)

    def stamps(self) -> list[tuple[str, str, int, int]]:
        """Returns what changes when a file changes: its class, path, size and time.

        Raises:
            ValueError: If a listed file is not there.
        """
        stamps = []
        for entry in self.classes:
            for path in entry.paths:
                try:
                    status = os.stat(path)  # twice as fast as the path's own method
                except OSError as error:
                    raise ValueError(f"cannot read {path} ({error.strerror}), an image of {entry.name!r}.") from error
                stamps.append((entry.name, os.path.abspath(path), status.st_size, status.st_mtime_ns))
        return stamps


def class_folders(root: Path, which: Which | None = None) -> list[ClassFiles]:
    """The classes of a folder of folders: each folder is a class, with all images in it, however deep.

    Links are followed, but not back to where they lie; what begins with a dot is a file manager's. Classes and files
    are in the order of their names; how many files are passed over for their names is said.

    Args:
        root: The folder.
        which: Whether the first folders are the classes or the deepest ones, as `arranged` has it.

    Returns:
        The classes; one whose folder has no image has no paths.

    Raises:
        ValueError: If the folder is not there or has no folders, or `which` is None and makes a difference.
    """
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}: give one that holds a folder of images for each class.")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and _visible(path.name))
    files = [path.name for path in root.iterdir() if path.is_file() and _visible(path.name)]
    if not folders:
        loose = ", only loose files" if files else ""
        raise ValueError(f"{root} holds no folders{loose}: put the images of each class into a folder of its own.")
    others: Counter[str] = Counter()
    tops = [ClassFiles(folder.name, tuple(image_paths(folder, others))) for folder in folders]
    say_passed_over(others, root)
    if beside := sum(_suffix(name) in image_suffixes() for name in files):
        images = f"{beside:,} image{'s' if beside > 1 else ''}"
        say(f"{root}: {images} beside the folders of the classes, which belong to no class, are passed over")
    return arranged(root, tops, which)


def check_no_class_is_empty(classes: Sequence[ClassFiles], where: str) -> None:
    """Refuses classes without an image, all of them at once.

    Raises:
        ValueError: If there are some; names them.
    """
    if empty := [repr(entry.name) for entry in classes if not entry.paths]:
        raise ValueError(
            f"{where} has {len(empty):,} class{'es' if len(empty) > 1 else ''} without an image: {', '.join(empty)}. "
            "Put images there, remove the folders, or leave them out by data.too_few leave_out."
        )


def image_paths(folder: Path, others: Counter[str] | None = None) -> list[Path]:
    """The images in a folder and the folders in it, in the order of their names; by their names only.

    Args:
        folder: The folder.
        others: Where given, files with other endings are counted here by their endings.
    """
    found: list[str] = []  # paths as objects would take three times as long
    seen = {_identity(parent) for parent in (folder, *folder.absolute().parents)}  # against links that lead round
    suffixes = image_suffixes()
    for place, folders, files in os.walk(folder, followlinks=True):
        fresh = {name: _identity(Path(place, name)) for name in sorted(folders) if _visible(name)}
        folders[:] = [name for name, identity in fresh.items() if identity not in seen]
        seen.update(fresh.values())
        visible = [name for name in files if _visible(name)]
        found += [f"{place}/{name}" for name in visible if _suffix(name) in suffixes]
        if others is not None:
            others.update(_suffix(name) for name in visible if _suffix(name) not in suffixes)
    return [Path(path) for path in sorted(found)]


def say_passed_over(others: Counter[str], folder: Path) -> None:
    """Tells how many files are no images by their names, and which endings they have."""
    if others:
        kinds = ", ".join(f"{count:,} {suffix or 'without an ending'}" for suffix, count in others.most_common(5))
        count = f"{others.total():,} file{'s' if others.total() > 1 else ''}"
        say(f"{folder}: passed over {count} that cannot be read here: {kinds}")


def read_bank(
    classes: Sequence[ClassFiles], spec: InputSpec, what: str, strict: bool, once: bool = False
) -> tuple[ImageBank, list[ClassFiles]]:
    """Decodes all files of some classes, in parallel.

    Args:
        classes: The files.
        spec: What images are turned into.
        what: Name of the data set, for the progress bar.
        strict: Whether files that are no images stop it; otherwise they are named and left out.
        once: Whether a file whose content stands in its class before is left out.

    Returns:
        The bank, one class for each of `classes`, which says what was left out, and the files that are in it.

    Raises:
        ValueError: If files are broken and `strict`, or no image of a class can be read; names them.
    """
    paths = [path for entry in classes for path in entry.paths]
    images, read = read_images(paths, spec, what, strict)
    owner = np.repeat(np.arange(len(classes)), [len(entry.paths) for entry in classes])
    left_out = dict.fromkeys(sorted(set(range(len(paths))).difference(read)), -1)
    if once:
        first = first_of_class(image_digests(torch.from_numpy(images)), owner[read])
        left_out |= {read[i]: read[first[i]] for i in range(len(read)) if first[i] != i}
        kept_images = np.unique(first).tolist()
        images, read = _only(images, kept_images), [read[i] for i in kept_images]
    sizes = np.bincount(owner[read], minlength=len(classes)).tolist()
    if unread := [repr(entry.name) for entry, size in zip(classes, sizes, strict=True) if size == 0]:
        named = f"the class {unread[0]}" if len(unread) == 1 else f"the classes {', '.join(unread)}"
        raise ValueError(f"no image of {named} can be read: replace them, or remove the folder.")
    rest = iter(paths[i] for i in read)
    kept = [ClassFiles(entry.name, tuple(islice(rest, size))) for entry, size in zip(classes, sizes, strict=True)]
    bank = ImageBank.from_sizes(torch.from_numpy(images), [entry.name for entry in classes], sizes)
    return replace(bank, left_out=tuple(sorted(left_out.items()))), kept


def read_images(paths: Sequence[Path], spec: InputSpec, what: str, strict: bool) -> tuple[np.ndarray, list[int]]:
    """Decodes files, in parallel.

    Returns:
        The images (N, C, H, W) uint8 that could be read, and their positions among `paths`.

    Raises:
        ValueError: If files are broken and `strict`; names them.
    """
    images = _room(len(paths), spec)
    broken: dict[int, str] = {}

    def put(numbers: list[int]) -> int:
        for i in numbers:
            try:
                images[i] = decode_image(paths[i], spec)
            except BrokenImageError as error:
                broken[i] = str(error)
        return len(numbers)

    with (
        warnings.catch_warnings(action="ignore"),  # Pillow's, of damaged EXIF data; set here, as threads share it
        progress(f"{what}: reading images", len(paths)) as advance,
        ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool,
    ):
        for count in pool.map(put, _batches(range(len(paths)))):
            advance(count)
    report_broken({paths[i]: broken[i] for i in sorted(broken)}, strict)
    read = [i for i in range(len(paths)) if i not in broken]
    return _only(images, read), read


def _only(images: np.ndarray, kept: list[int]) -> np.ndarray:
    """Some of the images (N, C, H, W), moved to the front in place: there may be room for one copy only."""
    if len(kept) < len(images):
        for target, i in enumerate(kept):
            images[target] = images[i]
    return images[: len(kept)]


def report_broken(broken: dict[Path, str], strict: bool) -> None:
    """Names the files that are no images: as an error, or in one line for each.

    Raises:
        ValueError: If there are some and `strict`.
    """
    if not broken:
        return
    count = f"{len(broken):,} file{'s' if len(broken) > 1 else ''}"
    if strict:
        listed = ", ".join(f"{path} ({reason})" for path, reason in islice(broken.items(), SHOWN)) + _more(len(broken))
        raise ValueError(f"{count} cannot be read: {listed}. Replace or remove them, or set data.strict to false.")
    for path, reason in broken.items():
        say(f"left out: {path} ({reason})")
    say(f"{count} left out, listed above")


def _room(n_images: int, spec: InputSpec) -> np.ndarray:
    """Zeros (N, C, H, W) uint8; many of them in a file that is gone when nobody holds it."""
    shape = (n_images, *spec.image_shape)
    size = int(np.prod(shape))
    if size <= IN_MEMORY:
        return np.zeros(shape, np.uint8)
    user_cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=user_cache()) as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and would be a crash while it is written
            os.posix_fallocate(file.fileno(), 0, size)
        file.truncate(size)
        return np.memmap(file, np.uint8, "r+", shape=shape)


def _batches(numbers: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(numbers)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _identity(folder: Path) -> tuple[int, int]:
    """The same for all names of a folder; (0, 0) where it is gone."""
    try:
        status = os.stat(folder)
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))


def _more(count: int) -> str:
    return f" and {count - SHOWN:,} more" if count > SHOWN else ""
