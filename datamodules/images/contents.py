"""Tells images apart by their content: a digest of each whole decoded image, kept beside the images' cache.

The digest is BLAKE2b over an image's bytes as the model sees them: (C, H, W) uint8, decoded, resized, before any
augmentation. Equal digests mean equal images (two different ones of a million agree with a probability of 1e-7).
Content does not find an image in another size, a file that was saved anew by a lossy format, or a crop of it.

A bank's digests lie in its cache's folder `NAME-KEY.bank/` as `contents.npy`; those of a bank with turned classes as
`contents-turned.npy`; where that folder cannot be written, in the user's cache folder as `NAME-KEY.contents.npy`. The
file is an array (N + 1,) of little-endian int64: a digest for each of the N images in the bank's order, and last the
digest of all these bytes, by which damage is found.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.images.bank import ImageBank
from datamodules.images.cache import may_write, user_cache

DIGEST_BYTES = 8
AT_ONCE = 512  # images that a thread digests before it hands over
LOOKED_AT = 64  # images whose digests are computed again when a file is read: it may be of another bank


class Contents(NamedTuple):
    """The digests that tell a bank's images apart.

    Attributes:
        digest: (N,) int64, the same for images of the same content.
        fresh: Whether it has been computed now rather than read.
    """

    digest: Tensor
    fresh: bool


def image_digests(images: Tensor) -> Tensor:
    """Digests whole images.

    Args:
        images: (N, C, H, W) uint8, on the CPU.

    Returns:
        (N,) int64; equal for equal images.

    Example:
        >>> one, two, three = image_digests(torch.tensor([1, 2, 1], dtype=torch.uint8).view(3, 1, 1, 1)).tolist()
        >>> one == three, one == two
        (True, False)
    """
    rows = images.flatten(1).numpy()  # (N, C * H * W)

    def digests(start: int) -> bytes:
        part = rows[start : start + AT_ONCE]
        return b"".join(hashlib.blake2b(row, digest_size=DIGEST_BYTES).digest() for row in part)

    # hashlib releases the interpreter's lock for images of 2 KB and more.
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        joined = b"".join(pool.map(digests, range(0, len(rows), AT_ONCE)))
    return torch.from_numpy(np.frombuffer(joined, "<i8").astype(np.int64))


def contents_of(bank: ImageBank) -> Contents:
    """The digests of a bank's images: read from beside its cache, else computed and stored there.

    Safe when several processes call it at once: each that finds nothing computes, and files appear by one rename. A
    bank that is held in memory, or whose digests can be stored nowhere, is digested at every call.

    Args:
        bank: The images.
    """
    places = list(_places(bank))
    for place in places:
        digest = _load(place, bank.images)
        if digest is not None:
            return Contents(digest, fresh=False)
    digest = image_digests(bank.images)
    for place in places:
        if not may_write(place.parent) and not place.is_relative_to(user_cache()):
            continue
        try:
            _store(digest, place)
            break
        except OSError:  # not writable, or full
            continue
    return Contents(digest, fresh=True)


def combined_digest(*parts: str | Tensor | list[int]) -> str:
    """One digest of several things in their order.

    Args:
        parts: Names, numbers, or digests (N,) int64.

    Returns:
        16 hexadecimal digits.
    """
    whole = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else _bytes(torch.as_tensor(part))
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()


def _bytes(numbers: Tensor) -> bytes:
    return numbers.to(torch.int64).contiguous().numpy().astype("<i8").tobytes()


def _places(bank: ImageBank) -> Iterator[Path]:
    if bank.cached is not None:
        turned = "-turned" if bank.turns > 1 else ""
        yield bank.cached / f"contents{turned}.npy"
        yield user_cache() / f"{bank.cached.stem}.contents{turned}.npy"


def _check_number(digest: Tensor) -> int:
    return int.from_bytes(hashlib.blake2b(_bytes(digest), digest_size=DIGEST_BYTES).digest(), "little", signed=True)


def _load(path: Path, images: Tensor) -> Tensor | None:
    """The digests (N,) in a file; None where there are none, they are damaged or of other images."""
    try:
        stored = np.load(path, allow_pickle=False)  # (N + 1,)
        if stored.dtype != np.dtype("<i8") or stored.shape != (len(images) + 1,):
            return None
        digest = torch.from_numpy(stored[:-1].astype(np.int64))  # (N,)
        chosen = torch.linspace(0, len(images) - 1, min(LOOKED_AT, len(images)), dtype=torch.float64).long()
        sound = int(stored[-1]) == _check_number(digest) and torch.equal(image_digests(images[chosen]), digest[chosen])
        return digest if sound else None
    except Exception:  # none there, or whatever numpy makes of a damaged file
        return None


def _store(digest: Tensor, path: Path) -> None:
    """Writes the file whole beside its place and renames it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.append(digest.numpy(), _check_number(digest)).astype("<i8")  # (N + 1,)
    number, draft = tempfile.mkstemp(prefix=".contents-", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            np.save(file, rows)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)  # mkstemp makes it private; the data may be shared
        os.replace(draft, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(draft)
