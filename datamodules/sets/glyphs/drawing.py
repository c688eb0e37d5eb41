"""Draws characters with the fonts inside matplotlib, and distorts the drawings."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.tasks.counter import random_bits

# The order in which a class's faces go to its two halves in turn, so that both halves mix families and weights.
FACES = tuple(
    f"DejaVu{family}{style}"
    for family, slanted in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-Bold{slanted}", f"-{slanted}")
)
IMAGE_SIZE = 28
CANVAS = 2 * IMAGE_SIZE  # drawn and distorted at twice the size, then averaged: smooth edges
INK_SIZE = 40  # of the canvas: the longer side of every character; Omniglot's drawings fill their box alike

ROTATION = 8.0  # degrees, either way
SCALE = 0.1  # either way
SHEAR = 0.1  # either way
SHIFT = 1.5  # pixels of the image, either way


def draw_face(face: str, codes: Collection[int]) -> dict[int, np.ndarray]:
    """Draws characters upright and centred, each as large as the canvas allows.

    Args:
        face: a font file of matplotlib's, without ".ttf".
        codes: the code points to draw.

    Returns:
        Code point -> (CANVAS, CANVAS) uint8, ink 255 on 0, for those that the font has and that have ink.
    """
    import matplotlib
    from matplotlib.ft2font import FT2Font, LoadFlags

    font = FT2Font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"))
    drawings = {}
    for code, glyph in font.get_charmap().items():
        if code not in codes or glyph == 0:  # glyph 0 is the box that stands for a missing character
            continue
        font.set_size(INK_SIZE, 72)  # pixels to the em, only to measure
        longer = _longer_side(font.load_char(code, LoadFlags.NO_HINTING).bbox)
        if longer <= 0:
            continue
        font.set_size(INK_SIZE * INK_SIZE / longer, 72)
        drawn = font.load_char(code, LoadFlags.NO_HINTING)
        left, bottom, right, top = drawn.bbox  # in 1/64 pixel
        canvas = np.zeros((CANVAS, CANVAS), np.uint8)
        x, y = round(CANVAS / 2 - (left + right) / 128), round(CANVAS / 2 - (top - bottom) / 128)
        font.draw_glyph_to_bitmap(canvas, x, y, drawn)  # it adds the left bearing to x, but not the top one to y
        drawings[code] = canvas
    return drawings


def _longer_side(bbox: tuple[int, int, int, int]) -> float:
    """The longer side in pixels of a box (left, bottom, right, top) in 1/64 pixel."""
    left, bottom, right, top = bbox
    return max(right - left, top - bottom) / 64


def distort(drawings: Tensor, number: Tensor) -> Tensor:
    """Turns, scales, shears and shifts each drawing a little, and shrinks it to the image size.

    Args:
        drawings: (B, CANVAS, CANVAS) uint8.
        number: (B,) int64: the number that draws the same distortion again.

    Returns:
        (B, 1, IMAGE_SIZE, IMAGE_SIZE) uint8.
    """
    unit = random_bits(seed=0, stream=0, index=number, n_draws=6).double() / 2**31 - 1  # (B, 6) in [-1, 1)
    angle = torch.deg2rad(unit[:, 0] * ROTATION)  # (B,)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # (B, 2, 2)
    stretch = torch.zeros_like(turn)
    stretch[:, 0, 0] = 1 / (1 + unit[:, 1] * SCALE)
    stretch[:, 1, 1] = 1 / (1 + unit[:, 2] * SCALE)
    stretch[:, 0, 1] = unit[:, 3] * SHEAR
    shift = unit[:, 4:] * (2 * SHIFT / IMAGE_SIZE)  # (B, 2), in grid_sample's units: the canvas is 2 wide
    affine = torch.cat([turn @ stretch, shift.unsqueeze(2)], 2).float()  # (B, 2, 3)
    line = (2 * torch.arange(CANVAS) + 1) / CANVAS - 1  # pixel centres in [-1, 1]
    y, x = torch.meshgrid(line, line, indexing="ij")
    here = torch.stack([x, y, torch.ones_like(x)]).flatten(1)  # (3, CANVAS * CANVAS)
    # One product for all images: three times faster than F.affine_grid, which makes one for each.
    there = (affine.flatten(0, 1) @ here).view(-1, 2, CANVAS, CANVAS)  # (B, 2, CANVAS, CANVAS)
    grid = there.permute(0, 2, 3, 1)  # (B, CANVAS, CANVAS, 2)
    ink = F.grid_sample(drawings.unsqueeze(1).float(), grid, align_corners=False)  # (B, 1, CANVAS, CANVAS)
    return F.avg_pool2d(ink, 2).round().to(torch.uint8)  # (B, 1, IMAGE_SIZE, IMAGE_SIZE)
