"""From decoded images to network inputs, as the data modules do it with Pillow, so that a graph can hold it."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from modules.functional.images.resizing import Filter, resize

MIDDLE = 127.5  # of the levels 0 ... 255


class Preprocessing(NamedTuple):
    """The steps from an RGB image to a network's input.

    Args:
        image_shape: (C, H, W) that the network takes; one channel is grey, three are RGB.
        filter_name: Which of Pillow's filters resizes; all but "nearest" are antialiased.
        fit: "squash": the whole image becomes H x W; "crop": its largest centred part of that aspect does.
        inverts_paper: Whether images of a light border are inverted: the network wants light strokes on dark.
    """

    image_shape: tuple[int, int, int]
    filter_name: Filter = "bilinear"
    fit: Literal["squash", "crop"] = "squash"
    inverts_paper: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """RGB images of 8 bits to network inputs.

        Args:
            images: (B, 3, height, width) uint8.

        Returns:
            (B, C, H, W) float32 in [0, 1].
        """
        channels, *size = self.image_shape
        colours = images.to(torch.float32)
        shown = grey(colours) if channels == 1 else colours  # (B, C, height, width)
        levels = resize(shown, (size[0], size[1]), self.filter_name, self.fit)  # (B, C, H, W)
        if self.inverts_paper:
            on_paper = border_mean(grey(colours)) > MIDDLE  # (B,)
            levels = torch.where(on_paper.view(-1, 1, 1, 1), 255 - levels, levels)
        return levels.to(torch.float32) / 255


def grey(colours: Tensor) -> Tensor:
    """Pillow's luma, ITU-R 601-2 in fixed point: (B, 3, height, width) levels to (B, 1, height, width) levels.

    All sums are whole numbers below 2^24, which float32 holds exactly.
    """
    red, green, blue = colours.unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) / 65536).floor().unsqueeze(1)


def border_mean(levels: Tensor) -> Tensor:
    """The mean of the outermost pixels: (B, 1, height, width) to (B,), float64. A single line counts twice."""
    lines = levels.squeeze(1).to(torch.float64)  # (B, height, width)
    index = torch.arange(lines.shape[1], device=levels.device)
    between = ((index > 0) & (index < lines.shape[1] - 1)).to(torch.float64)  # (height,)
    ends = lines[:, 0].sum(1) + lines[:, -1].sum(1)
    sides = ((lines[:, :, 0] + lines[:, :, -1]) * between).sum(1)
    count = 2 * torch.ones_like(lines[0, 0]).sum() + 2 * between.sum()
    return (ends + sides) / count
