"""The cache of image banks: built once, then memory-mapped in milliseconds.

A cached bank is a folder `NAME-KEY.bank/` of two files: images.npy, which the operating system maps and shares between
processes, and classes.json. The key is a hash of everything the images were made from, so changed sources make a new
folder instead of a stale answer. The folder appears by one rename, so nobody ever sees half of one. Until then it is a
hidden draft, which its builder keeps locked: one of a builder that was killed is removed after a day.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.images.bank import ImageBank

FORMAT_VERSION = 1
CHECKED_BLOCKS = 64  # a checksum of at most this many blocks: finds damage, yet costs milliseconds for gigabytes
BLOCK_BYTES = 1 << 20
DAY = 24 * 3600
BUILDER = "builder"  # the file in a draft that its builder keeps locked; the kernel unlocks it however the builder ends


_ONLY_READ: list[Path] = []


def only_read(folders: Iterable[Path]) -> None:
    """From now on nothing is written into these folders, nor under them: a checkpoint has named them, not the user.

    What is cached there is read. A user's own cache folder is written to wherever it lies.
    """
    _ONLY_READ[:] = [folder.resolve() for folder in folders]


def may_write(folder: Path) -> bool:
    """Tells whether caches may be written into a folder: not where it lies in one that is `only_read`."""
    return not any(folder.resolve().is_relative_to(other) for other in _ONLY_READ)


def user_cache() -> Path:
    """The folder for caches that belong to the user rather than to a data set's folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "quickstudy"


def _own_temporary() -> list[Path]:
    """A folder under the system's temporary one, unless another user has made one of its name."""
    place = Path(tempfile.gettempdir()) / f"quickstudy-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        return [place] if place.lstat().st_uid == os.getuid() else []
    except OSError:
        return []


def fingerprint(*parts: object) -> str:
    """Hashes what a bank is made from: file names, sizes, times, checksums, parameters.

    Args:
        parts: anything that `json` writes; the order matters.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps([FORMAT_VERSION, *parts], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_or_build(folder: Path, name: str, key: str, build: Callable[[], ImageBank]) -> ImageBank:
    """Loads the bank from the cache, or builds and caches it.

    Safe when several processes call it at once: each that finds nothing builds, the first to finish wins.

    Args:
        folder: where to keep the cache; where it cannot be written, or is `only_read`, the user's cache folder serves,
            then the system's temporary folder, and without any of them the bank stays in memory.
        name: of the data set, the readable part of the cache's name.
        key: the fingerprint of what the bank is made from.
        build: makes the bank from its sources.

    Returns:
        The bank, memory-mapped.
    """
    folders = (folder, user_cache(), *_own_temporary())
    entry = f"{name}-{key}.bank"
    for place in folders:
        bank = _load(place / entry)
        if bank is not None:
            return bank
    bank = build()
    for place in folders:
        if place is folder and not may_write(place):
            continue
        try:
            return _store(bank, place / entry)
        except OSError:  # not writable, or full
            continue
    return bank


def _blocks_checksum(path: Path) -> int:
    """CRC-32 of up to CHECKED_BLOCKS evenly spaced blocks, the first and the last among them."""

    def blocks() -> Iterator[bytes]:
        size = path.stat().st_size
        count = min(CHECKED_BLOCKS, -(-size // BLOCK_BYTES))
        last = max(0, size - BLOCK_BYTES)
        with path.open("rb") as file:
            for i in range(count):
                file.seek(last * i // max(1, count - 1))
                yield file.read(BLOCK_BYTES)

    checksum = 0
    for block in blocks():
        checksum = zlib.crc32(block, checksum)
    return checksum


def _load(entry: Path) -> ImageBank | None:
    """Maps a cached bank; None where there is none or it is damaged in any way."""
    try:
        table = json.loads((entry / "classes.json").read_text("utf-8"))
        file = entry / "images.npy"
        if table.pop("table_checksum") != _table_checksum(table):
            return None
        if file.stat().st_size != table["bytes"] or _blocks_checksum(file) != table["checksum"]:
            return None
        # Mode "c" maps privately: torch gets a writable array (it warns about others), and the file never changes.
        images = torch.from_numpy(np.load(file, mmap_mode="c", allow_pickle=False))  # (N, C, H, W)
        bank = ImageBank.from_sizes(images, table["names"], table["sizes"], table["first_half"])
        left_out = tuple((int(file), int(same)) for file, same in table.get("left_out", ()))
        return dataclasses.replace(bank, cached=entry, left_out=left_out)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _table_checksum(table: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(table, sort_keys=True).encode())


def _store(bank: ImageBank, entry: Path) -> ImageBank:
    """Writes the bank beside `entry`, renames it into place and maps it."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned_drafts(entry.parent)
    draft = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        with (draft / BUILDER).open("wb") as builder:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(builder, fcntl.LOCK_EX)
            _write(bank, draft)
            (draft / BUILDER).unlink()
            return _rename(draft, entry)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(bank: ImageBank, draft: Path) -> None:
    with (draft / "images.npy").open("wb") as file:
        np.save(file, bank.images.numpy())
        file.flush()
        os.fsync(file.fileno())  # else a power cut can leave a renamed, yet empty file
    table: dict[str, Any] = {
        "names": bank.class_names,
        "sizes": bank.class_size.tolist(),
        "first_half": None if bank.first_half is None else bank.first_half.tolist(),
        "bytes": (draft / "images.npy").stat().st_size,
        "checksum": _blocks_checksum(draft / "images.npy"),
    }
    table |= {"left_out": bank.left_out} if bank.left_out else {}
    table["table_checksum"] = _table_checksum(table)
    (draft / "classes.json").write_text(json.dumps(table), "utf-8")
    draft.chmod(0o755)  # mkdtemp makes it private; the data may be shared


def _remove_abandoned_drafts(folder: Path) -> None:
    """Removes what killed builders left: drafts a day away in time, in either direction, that nobody has locked."""
    for draft in folder.glob(".*.bank-*"):
        if not re.fullmatch(r"\..+\.bank-\w{8}", draft.name):
            continue
        with contextlib.suppress(OSError):  # gone by now, not ours, or no folder
            if draft.is_symlink() or abs(time.time() - draft.stat().st_mtime) < DAY:
                continue
            with contextlib.suppress(FileNotFoundError), (draft / BUILDER).open("rb") as builder:
                fcntl.flock(builder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(draft, ignore_errors=True)


def _rename(draft: Path, entry: Path) -> ImageBank:
    """Puts the draft at `entry`, unless another process has put a sound one there; a damaged one gives way."""
    for _ in range(3):
        try:
            draft.rename(entry)
        except OSError:  # something is there
            bank = _load(entry)
            if bank is not None:
                return bank
            grave = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
            with contextlib.suppress(OSError):  # another process cleared it first
                entry.rename(grave / "damaged")
            shutil.rmtree(grave, ignore_errors=True)
            continue
        bank = _load(entry)
        if bank is not None:
            return bank
    raise OSError(f"cannot put a sound image bank at {entry}")
