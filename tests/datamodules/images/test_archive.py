"""Bad archives, made for real: each is refused in one line, before anything is decompressed or written."""

import os
import stat
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.images.archive import Bounds, open_archive
from datamodules.sets.omniglot.source import PARTS, decode
from tests.datamodules.tiny_omniglot import ALL, module, one_line, originals, png, write_zips

pytestmark = pytest.mark.usefixtures("small_omniglot")

BOUNDS = Bounds(member=10_000, total=50_000, count=100)
MEBIBYTE = 1 << 20
Writer = Callable[[zipfile.ZipFile], None]


def put(name: str, data: bytes = b"data", **changes: int) -> Writer:
    """Writes one member with these fields of its header."""

    def write(archive: zipfile.ZipFile) -> None:
        member = zipfile.ZipInfo("x" * len(name))
        for field, value in changes.items():
            setattr(member, field, value)
        archive.writestr(member, data, compress_type=changes.get("compress_type", zipfile.ZIP_DEFLATED))
        member.filename = name  # in the directory at the end, as it is: zipfile would mend it here

    return write


def twice(archive: zipfile.ZipFile) -> None:
    archive.writestr("a.png", b"one")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.png", b"other")


def many(size: int, count: int) -> Writer:
    def write(archive: zipfile.ZipFile) -> None:
        for i in range(count):
            archive.writestr(f"{i}.png", os.urandom(size))

    return write


def flagged(bit: int) -> Callable[[Path], None]:
    """Sets a flag of the last member, which zipfile does not write."""

    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[data.rindex(b"PK\1\2") + 8] |= bit
        path.write_bytes(data)

    return change


BAD: dict[str, tuple[Writer, str]] = {
    "up": (put("../evil.png"), "leads out of the archive (../evil.png)"),
    "up inside": (put("images/../../evil.png"), "leads out of the archive (images/../../evil.png)"),
    "absolute": (put("/tmp/evil.png"), "has an absolute path (/tmp/evil.png)"),
    "drive": (put("C:/evil.png"), "has an absolute path (C:/evil.png)"),
    "backslash": (put("..\\evil.png"), "has a backslash"),
    "NUL": (put("a.png\0/../b"), "control characters (a.png\\x00/../b)"),
    "line break": (put("a\nb.png"), "control characters (a\\nb.png)"),
    "link": (put("link.png", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16), "a symbolic link (link.png)"),
    "device": (put("zero.png", external_attr=(stat.S_IFCHR | 0o666) << 16), "neither a file nor a folder (zero.png)"),
    "twice": (twice, "two members of this name (a.png)"),
    "bzip2": (put("a.png", compress_type=zipfile.ZIP_BZIP2), "method 12 instead of deflate (a.png)"),
    "large": (put("a.png", os.urandom(10_001)), "10,001 bytes, more than the 10,000 that one can have (a.png)"),
    "ratio": (put("a.png", bytes(9_000)), "claims to hold 9,000 (a.png)"),
    "total": (many(9_000, 6), "more than 50,000 bytes (5.png)"),
    "count": (many(1, 100), "101 members, more than 100"),
}


def refused(path: Path) -> str:
    """The line that refuses an archive; fails where something is written or much memory is taken."""
    before = sorted(path.parent.rglob("*"))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"not to be trusted|members, more than") as error, open_archive(path, BOUNDS):
        pytest.fail("opened")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEBIBYTE
    assert sorted(path.parent.rglob("*")) == before
    message = one_line(error)
    assert str(path) in message
    return message


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_archive_is_refused(tmp_path, kind):
    write, said = BAD[kind]
    path = tmp_path / "in" / "bad.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", b"good")
        write(archive)
    assert said in refused(path)


@pytest.mark.parametrize("bit", [0x1, 0x40])
def test_an_encrypted_member_is_refused(tmp_path, bit):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"data")
    flagged(bit)(path)
    assert "encrypted (a.png)" in refused(path)


def test_megabytes_of_nothing_are_refused_at_once(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.png", "w") as member:
        for _ in range(64):
            member.write(bytes(MEBIBYTE))
    assert "67,108,864 bytes, more than the 10,000" in refused(path)


def forge(path: Path, size: int, crc: int | None = None) -> None:
    """Makes both headers of the only member state another size, and another checksum."""
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\3\4", 14), (b"PK\1\2", 16)):
        start = data.rindex(signature) + at
        old = struct.unpack_from("<III", data, start)
        struct.pack_into("<III", data, start, old[0] if crc is None else crc, old[1], size)
    path.write_bytes(data)


@pytest.mark.parametrize("crc", [None, zlib.crc32(bytes(5_000))], ids=["true checksum", "forged checksum"])
def test_a_header_that_lies_about_the_size_inflates_no_more_than_it_states(tmp_path, crc):
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.png", "w") as member:
        for _ in range(64):
            member.write(bytes(MEBIBYTE))
    forge(path, 5_000, crc)
    with open_archive(path, BOUNDS) as opened:
        tracemalloc.start()
        if crc is None:
            with pytest.raises(ValueError, match="damaged") as error:
                opened.read("a.png")
            assert "a.png" in one_line(error)
        else:
            assert opened.read("a.png") == bytes(5_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MEBIBYTE // 4  # 64 MiB where zipfile reads a member without a bound


def test_a_header_that_states_too_much_is_damage(tmp_path):
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", os.urandom(3_000))
    forge(path, 4_000)
    with open_archive(path, BOUNDS) as opened, pytest.raises(ValueError, match="damaged"):
        opened.read("a.png")


def test_a_member_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "good.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"data")
    with open_archive(path, BOUNDS) as opened:
        assert opened.read("a.png") == b"data"
        with pytest.raises(ValueError, match=r"cannot read b\.png in .*good\.zip"):
            opened.read("b.png")


# ---- in Omniglot's place


@pytest.mark.parametrize("kind", ["up", "absolute", "link", "twice"])
def test_omniglot_refuses_a_bad_zip_and_writes_nothing(zips, kind):
    with zipfile.ZipFile(zips / "images_evaluation.zip", "a", zipfile.ZIP_DEFLATED) as archive:
        BAD[kind][0](archive)
    before = sorted(zips.parent.rglob("*"))
    with pytest.raises(ValueError, match="not to be trusted") as error:
        module(zips).build_bank()
    assert "images_evaluation.zip" in one_line(error)
    assert sorted(zips.parent.rglob("*")) == before


def test_omniglot_refuses_a_bomb_among_its_drawings(tmp_path):
    first = next(iter(originals()[PARTS[0]]))
    write_zips(tmp_path / "root", changed={first: bytes(2 * MEBIBYTE)})
    with pytest.raises(ValueError, match="2,097,152 bytes, more than") as error:
        module(tmp_path / "root").build_bank()
    assert first in one_line(error)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(side: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))


@pytest.mark.parametrize("side", [5_000, 12_000, 60_000])  # Pillow warns from 9,500 on, and refuses from 13,400 on
@pytest.mark.parametrize("before", [b"", header(105)], ids=["", "after a true header"])
def test_a_small_file_that_claims_many_pixels_is_not_decoded(side, before, recwarn):
    bomb = (
        b"\x89PNG\r\n\x1a\n" + before + header(side) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"{side}x{side} pixels" if not before else "broken"):
        decode(bomb, "here", 28)
    assert tracemalloc.get_traced_memory()[1] < MEBIBYTE
    tracemalloc.stop()
    if not before:
        assert not recwarn.list


def test_a_file_larger_than_any_drawing_is_not_read_whole(folders):
    file = folders / "omniglot" / "images_background" / ALL[0] / "0000_01.png"
    with file.open("wb") as large:
        large.write(png(ALL[0], 1)[:40])
        large.truncate(1 << 36)  # sparse
    with pytest.raises(ValueError, match="broken or cut short") as error:
        module(folders).build_bank()
    assert str(file) in one_line(error)
