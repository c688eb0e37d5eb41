"""Pillow's resizing as two matrix products, so that it can be a part of a network's graph."""

import math
from typing import Literal

import torch
from torch import Tensor

Filter = Literal["nearest", "bilinear", "bicubic", "lanczos"]

SUPPORT = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}  # a filter's reach, in pixels of the smaller grid
PRECISION = float(1 << 22)  # Pillow's fixed point: 32 bits less 8 of a pixel and 2 of head-room


def resize(images: Tensor, size: tuple[int, int], filter_name: Filter, fit: Literal["squash", "crop"]) -> Tensor:
    """Resizes images of 8 bits, bit for bit as Pillow does, which rounds to levels between its two passes.

    The sizes of the images enter as tensors, so that a traced graph takes images of any size.

    Args:
        images: (B, C, height, width), whole numbers in 0 ... 255 of any dtype.
        size: (H, W).
        filter_name: Which of Pillow's filters.
        fit: "squash": the whole image becomes H x W; "crop": its largest centred part of that aspect does.

    Returns:
        (B, C, H, W) float64, whole numbers in 0 ... 255.

    Reference:
        Pillow 13, `src/libImaging/Resample.c`, `ImagingResample` for 8 bits per channel. Before Pillow 13 the width
        was always first.
    """
    lengths = [torch.ones(n, dtype=torch.float64, device=images.device).sum() for n in images.shape[2:]]
    if fit == "crop":
        scale = torch.minimum(lengths[0] / size[0], lengths[1] / size[1])
        parts = [torch.minimum(n, (scale * out).round()).clamp(min=1) for n, out in zip(lengths, size, strict=True)]
    else:
        parts = lengths
    rows, columns = (
        coefficients(images.shape[2 + axis], ((lengths[axis] - part) / 2).floor(), part, size[axis], filter_name)
        for axis, part in enumerate(parts)
    )  # (H, height), (W, width)
    # float64 holds every sum exactly: 8 bits times 22, and a little for the sum.
    levels = images.to(torch.float64)
    width_first = _to_levels(rows @ _to_levels(levels @ columns.T))  # (B, C, height, W) -> (B, C, H, W)
    height_first = _to_levels(_to_levels(rows @ levels) @ columns.T)  # (B, C, H, width) -> (B, C, H, W)
    fewer_rows, fewer_columns = parts[0] - size[0], parts[1] - size[1]
    by_height = (fewer_rows > 0) & (fewer_rows > 2 * fewer_columns)  # Pillow's rule
    return torch.where(by_height, height_first, width_first)


def coefficients(n: int, start: Tensor, part: Tensor, n_out: int, filter_name: Filter) -> Tensor:
    """Returns what each pixel of a line contributes to each pixel of the resized line.

    Args:
        n: Pixels of the line.
        start: () float64, the first pixel of the part that is resized.
        part: () float64, pixels of that part.
        n_out: Pixels of the resized line.
        filter_name: Which filter.

    Returns:
        (n_out, n) float64, whole numbers; each row sums to 2^22 but for rounding.
    """
    scale = part / n_out
    if filter_name == "nearest":
        return _nearest(n, start, scale, n_out)
    stretch = scale.clamp(min=1)  # antialiasing: the filter widens where the image shrinks
    reach = SUPPORT[filter_name] * stretch
    position = torch.arange(n, dtype=torch.float64, device=part.device) - start  # (n,)
    centre = (torch.arange(n_out, dtype=torch.float64, device=part.device).unsqueeze(1) + 0.5) * scale  # (n_out, 1)
    first = (centre - reach + 0.5).floor().clamp(min=0)
    end = torch.minimum((centre + reach + 0.5).floor(), part)
    inside = (position >= first) & (position < end)
    weights = torch.where(inside, _FILTERS[filter_name]((position - centre + 0.5) * (1 / stretch)), 0.0)
    fixed = weights / weights.sum(1, keepdim=True) * PRECISION
    return torch.where(fixed < 0, (fixed - 0.5).ceil(), (fixed + 0.5).floor())


def _nearest(n: int, start: Tensor, scale: Tensor, n_out: int) -> Tensor:
    """The pixel in which the middle of a resized one lies; Pillow adds the scale up from one to the next."""
    middle = torch.cat([(scale / 2).view(1), scale.expand(n_out - 1)]).cumsum(0)
    chosen = (start + middle.floor()).unsqueeze(1)  # (n_out, 1)
    pixel = torch.arange(n, dtype=torch.float64, device=scale.device)
    return torch.where(pixel == chosen, PRECISION, 0.0).to(torch.float64)


def _to_levels(sums: Tensor) -> Tensor:
    """Fixed point to the nearest level, halves upwards."""
    return ((sums + PRECISION / 2) / PRECISION).floor().clamp(0, 255)


def _bilinear(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _bicubic(x: Tensor) -> Tensor:
    """Keys' cubic with a = -1/2."""
    x = x.abs()
    near = ((-0.5 + 2) * x - (-0.5 + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _lanczos(x: Tensor) -> Tensor:
    return torch.where((x >= -3) & (x < 3), _sinc(x) * _sinc(x / 3), 0.0)


def _sinc(x: Tensor) -> Tensor:
    angle = torch.where(x == 0, 1.0, x) * math.pi
    return torch.where(x == 0, 1.0, angle.sin() / angle)


_FILTERS = {"bilinear": _bilinear, "bicubic": _bicubic, "lanczos": _lanczos}
