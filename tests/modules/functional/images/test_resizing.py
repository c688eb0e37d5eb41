"""Resizing in a graph against Pillow, which it copies bit for bit."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from modules.functional.images.resizing import SUPPORT, Filter, resize

FILTERS: tuple[Filter, ...] = ("nearest", "bilinear", "bicubic", "lanczos")
DATA = Path(os.environ.get("QUICKSTUDY_DATA", "/nowhere"))
# (height, width): one pixel, lines, larger, smaller, the network's own size, and both orders of Pillow's passes.
SIZES = ((1, 1), (1, 50), (37, 3), (5, 9), (28, 28), (84, 84), (105, 105), (200, 133), (100, 90), (133, 200), (86, 85))


def resized(pixels: np.ndarray, size: tuple[int, int], name: Filter) -> np.ndarray:
    """(height, width, C) to (H, W, C)."""
    images = torch.from_numpy(pixels.copy()).movedim(-1, 0).unsqueeze(0)  # (1, C, height, width)
    return resize(images, size, name, "squash")[0].movedim(0, -1).numpy()


def by_pillow(pixels: np.ndarray, size: tuple[int, int], name: Filter) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling[name.upper()]))


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("two_levels", [False, True])
def test_random_images_are_pillows_bit_for_bit(name: Filter, two_levels: bool) -> None:
    generator = np.random.default_rng(0)
    for (height, width), size in itertools.product(SIZES, [(28, 28), (84, 84), (32, 48)]):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels = np.where(pixels > 127, 255, 0).astype(np.uint8) if two_levels else pixels
        np.testing.assert_array_equal(resized(pixels, size, name), by_pillow(pixels, size, name), f"{height}x{width}")


@pytest.mark.parametrize(
    ("pattern", "size"), [("mini-imagenet/images/*.jpg", (84, 84)), ("omniglot/images_background/*/*/*.png", (28, 28))]
)
def test_real_images_are_pillows_bit_for_bit(pattern: str, size: tuple[int, int]) -> None:
    paths = list(itertools.islice(DATA.glob(pattern), 40))
    if not paths:
        pytest.skip(f"no {pattern} in QUICKSTUDY_DATA")
    for path, name in itertools.product(paths, FILTERS):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(resized(pixels, size, name), by_pillow(pixels, size, name), path.name)


def test_a_centred_crop_is_pillows() -> None:
    generator = np.random.default_rng(1)
    for height, width in [(50, 31), (31, 50), (84, 100), (200, 140)]:
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        images = torch.from_numpy(pixels).movedim(-1, 0).unsqueeze(0)
        cropped = resize(images, (28, 28), "bicubic", "crop")[0].movedim(0, -1).numpy()
        expected = by_pillow(pixels[top : top + side, left : left + side], (28, 28), "bicubic")
        np.testing.assert_array_equal(cropped, expected)


def test_a_wrong_reach_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    monkeypatch.setitem(SUPPORT, "lanczos", 2.0)
    assert (resized(pixels, (28, 28), "lanczos") != by_pillow(pixels, (28, 28), "lanczos")).any()
