"""Zips that came from elsewhere: read in place, never unpacked, and checked before anything in them is believed."""

import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MEBIBYTE = 1 << 20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the two whose output can be bounded while it is decompressed
ENCRYPTED = 0x1 | 0x40  # flag bits: by a password, and "strongly"
MOST_RATIO, UNMEASURED = 100, 1 << 10  # a drawing is compressed already; so is nothing that is smaller than a header


@dataclass(frozen=True)
class Bounds:
    """What an archive may hold at most.

    Args:
        member: Bytes of a member, decompressed.
        total: Bytes of all members together, decompressed.
        count: Members.
    """

    member: int = MEBIBYTE
    total: int = 4096 * MEBIBYTE
    count: int = 1_000_000


class Archive:
    """An open zip, all of whose members have been checked.

    Args:
        path: Where it lies, for messages.
        file: The zip.
    """

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path, self._file = path, file

    def members(self) -> list[zipfile.ZipInfo]:
        """The files of the archive, without its folders."""
        return [member for member in self._file.infolist() if not member.is_dir()]

    def read(self, name: str) -> bytes:
        """The content of a member, never more than its header states.

        Raises:
            ValueError: If it is gone or damaged, or its header lies.
        """
        try:
            with self._file.open(name) as member:
                size = self._file.getinfo(name).file_size
                # ZipExtFile.read() without a size inflates up to 2 GiB before it cuts to what the header states.
                data = member.read(size)
                if len(data) != size:
                    raise EOFError
        except (OSError, KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise ValueError(f"cannot read {name} in {self.path}: the zip is damaged, fetch it again.") from error
        return data


@contextmanager
def open_archive(path: Path, bounds: Bounds) -> Iterator[Archive]:
    """Opens a zip and checks what it states of its members, before anything is decompressed.

    Args:
        path: The zip.
        bounds: What it may hold.

    Yields:
        The archive.

    Raises:
        ValueError: If it is no zip, or a member's name leads out of the archive, is there twice, or the member is a
            link, encrypted, or too large; one line that names both.
    """
    try:
        file = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ValueError(f"{path} is not a zip, or only a part of one ({error}): fetch it again.") from error
    with file:
        _check(path, file.infolist(), bounds)
        yield Archive(path, file)


def _check(path: Path, members: list[zipfile.ZipInfo], bounds: Bounds) -> None:
    if len(members) > bounds.count:
        raise ValueError(f"{path} has {len(members):,} members, more than {bounds.count:,}: fetch it again.")
    seen: set[str] = set()
    total = 0
    for member in members:
        total += member.file_size
        wrong = _wrong_name(member) or _wrong_kind(member) or _wrong_size(member, bounds)
        if not wrong and member.filename in seen:
            wrong = "there are two members of this name"
        if not wrong and total > bounds.total:
            wrong = f"up to this member they take more than {bounds.total:,} bytes"
        if wrong:
            name = ascii(member.orig_filename)[1:-1]
            shown = name if len(name) <= 100 else f"{name[:100]}..."
            raise ValueError(f"{path} is not to be trusted: {wrong} ({shown}). Nothing was read of it: fetch it again.")
        seen.add(member.filename)


def _wrong_name(member: zipfile.ZipInfo) -> str | None:
    """Returns what is wrong with a name; the one in the file, since zipfile cuts a name at its first NUL."""
    name = member.orig_filename
    if not name or any(ord(character) < 32 for character in name):
        return "a member's name is empty or has control characters"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "a member has an absolute path"
    if "\\" in name:
        return "a member's name has a backslash"
    if ".." in PurePosixPath(name).parts:
        return "a member's name leads out of the archive"
    return None


def _wrong_kind(member: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "a member is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a member is neither a file nor a folder"
    if member.flag_bits & ENCRYPTED:
        return "a member is encrypted"
    if member.compress_type not in METHODS:
        return f"a member is compressed by method {member.compress_type} instead of deflate"
    return None


def _wrong_size(member: zipfile.ZipInfo, bounds: Bounds) -> str | None:
    if member.file_size > bounds.member:
        return f"a member takes {member.file_size:,} bytes, more than the {bounds.member:,} that one can have"
    if member.file_size > MOST_RATIO * member.compress_size + UNMEASURED:
        return f"a member of {member.compress_size:,} bytes claims to hold {member.file_size:,}"
    return None
