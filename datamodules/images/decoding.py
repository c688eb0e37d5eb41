"""From an image file, of whatever format and mode Pillow reads, to the pixels that a network is trained on."""

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from datamodules.images.input_spec import InputSpec

# Of the formats that Pillow knows these are handed to other programs (PostScript to Ghostscript) or only told apart.
NO_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
MOST_PIXELS = 100_000_000  # decoded, of an image: what claims more is broken or means harm
# A photograph of 12 megapixels need not be decoded whole for 84 pixels: JPEG's own halvings bring it to this many times
# the size, from where the filter takes it.
DRAFT_TIMES = 4
WHITE, FULL_16, MIDDLE = 255, 65535, 127.5


class BrokenImageError(ValueError):
    """A file is no image that can be read."""


@cache
def image_formats() -> tuple[str, ...]:
    """The formats that Pillow reads by itself."""
    Image.init()
    return tuple(kind for kind in Image.OPEN if kind not in NO_IMAGES)


@cache
def image_suffixes() -> frozenset[str]:
    """Their endings, in lower case."""
    formats = image_formats()
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in formats)


def decode_image(file: Path | IO[bytes], spec: InputSpec) -> np.ndarray:
    """Decodes an image, upright as its EXIF data say, and brings it to a network's size and channels.

    Transparent parts become white; 16 bits become 8 by dropping the lower ones; of an animation the first image counts.

    Args:
        file: A path, or a file open for reading.
        spec: What the image is turned into.

    Returns:
        (C, H, W) uint8.

    Raises:
        BrokenImageError: If it is no image, or cut short; says why.
    """
    channels, height, width = spec.image_shape
    shown = open_upright(file, DRAFT_TIMES * max(height, width)).convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(_fitted(shown, spec))  # (H, W) or (H, W, 3)
    if spec.ink is not None and _border(np.asarray(shown.convert("L"))) > MIDDLE:
        pixels = WHITE - pixels
    return np.ascontiguousarray(np.moveaxis(np.atleast_3d(pixels), -1, 0))


def open_upright(file: Path | IO[bytes], at_least: int) -> Image.Image:
    """Decodes an image: upright, of 8 bits, on white where it is transparent.

    Args:
        file: A path, or a file open for reading.
        at_least: Pixels of the shorter side that are enough: a JPEG of twice as many or more is decoded at half its
            size, or a quarter ...

    Raises:
        BrokenImageError: If it is no image, or cut short; says why.
    """
    try:
        with Image.open(file, formats=image_formats()) as image:
            image.draft(None, (at_least, at_least))
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            return _opaque(_eight_bit(_upright(image)))
    except MemoryError:
        raise
    except Exception as error:  # decoders let errors of every kind out
        raise BrokenImageError(_reason(error)) from error


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    with suppress(Exception):  # damaged EXIF data are no reason to refuse the image
        return ImageOps.exif_transpose(image)
    return image


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image).astype(np.float64))
        top = float(values.max(initial=0))
        full = 1.0 if image.mode == "F" and top <= 1 else WHITE if top <= WHITE else max(top, FULL_16)
        return Image.fromarray((values.clip(0) * (WHITE / full)).round().astype(np.uint8))
    return image


def _opaque(image: Image.Image) -> Image.Image:
    """On white, where it is transparent."""
    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    paper = Image.new("RGBA", colours.size, (WHITE,) * 4)
    return Image.alpha_composite(paper, colours).convert("RGB")


def _fitted(image: Image.Image, spec: InputSpec) -> Image.Image:
    _, height, width = spec.image_shape
    if spec.fit == "crop":
        image = image.crop(centre_box(image.size, (width, height)))
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling[spec.filter.upper()])


def centre_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest centred part of an image that has the target's aspect, as (left, top, right, bottom) in pixels.

    Args:
        size: (width, height) of the image.
        target: (width, height) that it is resized to.
    """
    scale = min(size[0] / target[0], size[1] / target[1])
    width, height = (max(1, min(side, round(scale * wanted))) for side, wanted in zip(size, target, strict=True))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height


def _border(grey: np.ndarray) -> float:
    """The mean of the outermost pixels of (H, W): the paper's brightness."""
    frame = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    return float(frame.mean())


def _reason(error: BaseException) -> str:
    match error:
        case UnidentifiedImageError():
            return "no image that can be read"
        case Image.DecompressionBombError():
            return "more pixels than are safe to decode"
        case FileNotFoundError() | PermissionError() | IsADirectoryError():
            return error.strerror or "cannot be read"
    return "broken or cut short"
