"""Omniglot as it lies on a disk: finds its two parts, extracted or as zips, and lists and decodes their drawings."""

import io
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from datamodules.images.archive import MEBIBYTE, Bounds, open_archive
from datamodules.images.input_spec import Filter

PARTS = ("images_background", "images_evaluation")
FOLDERS = ("", "omniglot", "omniglot-py")  # under the root, in the order in which they are tried
DRAWINGS_PER_CHARACTER = 20
SIDE = 105  # pixels of an original drawing
# The drawings have at most some 400 bytes; the largest part has 19,280. A file manager may have added files of its own.
BOUNDS = Bounds(member=MEBIBYTE, total=256 * MEBIBYTE, count=100_000)

# ALPHABET/characterNN/NAME.png; a name that begins with a dot is a file manager's, not a drawing.
_DRAWING = re.compile(r"(?P<character>[^/]+/character\d+)/[^/.][^/]*\.png", re.IGNORECASE)


class Drawing(NamedTuple):
    """One file: its character ("Korean/character07"), its path under the part, and what changes when it changes."""

    character: str
    path: str
    stamp: tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """One of Omniglot's two parts: the extracted folder, or a zip that is read as it is."""

    path: Path

    def drawings(self) -> list[Drawing]:
        """All drawings of the part, in no particular order."""
        return self._zipped() if self.path.suffix == ".zip" else self._extracted()

    def read(self, drawings: Iterable[Drawing]) -> Iterator[bytes]:
        """Yields the files of some drawings.

        Raises:
            ValueError: If a file cannot be read; names it.
        """
        if self.path.suffix != ".zip":
            yield from (self._read_file(drawing) for drawing in drawings)
            return
        with open_archive(self.path, BOUNDS) as archive:
            yield from (archive.read(drawing.path) for drawing in drawings)

    def place(self, drawing: Drawing) -> str:
        """Tells where a drawing lies, for messages."""
        return f"{drawing.path} in {self.path}" if self.path.suffix == ".zip" else str(self.path / drawing.path)

    def _extracted(self) -> list[Drawing]:
        drawings = []
        for folder, _, files in os.walk(self.path):
            inside = Path(folder).relative_to(self.path).as_posix()
            for file in files:
                if match := _DRAWING.fullmatch(f"{inside}/{file}"):
                    status = os.stat(os.path.join(folder, file))
                    stamp = (status.st_size, status.st_mtime_ns)
                    drawings.append(Drawing(match["character"], f"{inside}/{file}", stamp))
        return drawings

    def _zipped(self) -> list[Drawing]:
        drawings = []
        prefix = f"{self.path.stem}/"
        with open_archive(self.path, BOUNDS) as archive:
            for member in archive.members():
                if match := _DRAWING.fullmatch(member.filename.removeprefix(prefix)):
                    drawings.append(Drawing(match["character"], member.filename, (member.file_size, member.CRC)))
        return drawings

    def _read_file(self, drawing: Drawing) -> bytes:
        try:
            with (self.path / drawing.path).open("rb") as file:
                return file.read(BOUNDS.member)  # of what is larger too little to be decoded
        except OSError as error:
            raise ValueError(f"cannot read {self.place(drawing)} ({error.strerror}): make it readable.") from error


def find_parts(root: Path) -> dict[str, Part]:
    """Looks for Omniglot in the root and the folders under it that other libraries use.

    Args:
        root: the user's folder.

    Returns:
        The parts of the first folder that holds any: both, one, or none at all.
    """
    for folder in FOLDERS:
        parts = {}
        for name in PARTS:
            extracted, archive = root / folder / name, root / folder / f"{name}.zip"
            if extracted.is_dir():
                parts[name] = Part(extracted)
            elif archive.is_file():
                parts[name] = Part(archive)
        if parts:
            return parts
    return {}


def check_drawings(found: Counter[str], expected: Iterable[str], where: Path) -> None:
    """Refuses a copy of Omniglot that is not whole.

    Args:
        found: how many drawings each character has.
        expected: the characters that Omniglot has.
        where: the folder, for the message.

    Raises:
        ValueError: If a character is missing, has too few or too many drawings, or is none of Omniglot's.
    """
    expected = sorted(expected)
    wrong = [f"{name} has {found[name]} drawings" for name in expected if found[name] != DRAWINGS_PER_CHARACTER] + [
        f"{name} is not of Omniglot" for name in sorted(found.keys() - set(expected))
    ]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"the copy of Omniglot in {where} is not whole: {'; '.join(wrong[:3])}{more}. It must have exactly "
            f"{len(expected):,} characters of {DRAWINGS_PER_CHARACTER} drawings: fetch or unpack it again."
        )


def decode(data: bytes, place: str, image_size: int, resize: Filter = "lanczos") -> np.ndarray:
    """Decodes a drawing and shrinks it.

    The authors' scripts resize one-bit images, of which Pillow takes the nearest pixels whatever filter is asked for:
    strokes break, and no grey is left. Made grey first, as here, a drawing is resized by the filter.

    Args:
        data: a PNG, black ink on white.
        place: where it lies, for messages.
        image_size: side of the result in pixels.
        resize: Pillow's filter.

    Returns:
        (image_size, image_size) uint8, ink 255 on 0.

    Raises:
        ValueError: If it is no PNG of 105x105 pixels.
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[16:24] != struct.pack(">II", SIDE, SIDE) and len(data) >= 24:
        # Read here, before Pillow warns: a few kilobytes can claim billions of pixels.
        width, height = struct.unpack(">II", data[16:24])
        raise ValueError(
            f"the drawing {place} has {width}x{height} pixels instead of {SIDE}x{SIDE}: "
            "use the original drawings, data.image_size resizes them."
        )
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size != (SIDE, SIDE):  # a second header
                raise ValueError(f"{image.size} pixels")
            grey = image.convert("L")
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, Image.DecompressionBombError) as error:
        raise ValueError(f"the drawing {place} is broken or cut short: fetch or unpack Omniglot again.") from error
    if image_size != SIDE:
        grey = grey.resize((image_size, image_size), Image.Resampling[resize.upper()])
    return 255 - np.asarray(grey)
