"""What an image file is turned into before a network sees it; the checkpoint carries it to the user's own images."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Filter = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Fit = Literal["squash", "crop"]
INK: Literal["white on black"] = "white on black"


@dataclass(frozen=True)
class InputSpec:
    """The steps from a file to numbers in [0, 1].

    Args:
        image_shape: (C, H, W); one channel is grey, three are RGB.
        filter: Pillow's filter that resizes; all but "nearest" are antialiased.
        fit: "squash": the whole image becomes H x W; "crop": its largest centred part of that aspect does.
        ink: "white on black": drawings, of which the dark ones on light paper are inverted; None: photographs.
        scaling: How 0 ... 255 become network inputs; the only one there is.
    """

    image_shape: tuple[int, int, int]
    filter: Filter = "bilinear"
    fit: Fit = "squash"
    ink: Literal["white on black"] | None = None
    scaling: str = "uint8 / 255"

    def __post_init__(self) -> None:
        channels, height, width = self.image_shape
        if channels not in (1, 3):
            raise ValueError(f"images have 1 channel (grey) or 3 (RGB), got {channels}.")
        if min(height, width) < 1:
            raise ValueError(f"image_size must be at least 1, got {height}x{width}.")

    def as_dict(self) -> dict[str, Any]:
        """As checkpoints carry it."""
        return {**asdict(self), "image_shape": list(self.image_shape)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "InputSpec":
        """Returns what a checkpoint carries.

        Raises:
            ValueError: If it names something else than images.
        """
        known = {name: stored[name] for name in ("filter", "fit", "ink", "scaling") if name in stored}
        shape = stored.get("image_shape", ())
        if len(shape) != 3:
            raise ValueError(f"the checkpoint's learner takes inputs of shape {tuple(shape)}, which are no images.")
        return cls((int(shape[0]), int(shape[1]), int(shape[2])), **known)


def scaled(images: Tensor) -> Tensor:
    """Images from uint8 (..., C, H, W) in [0, 255] to float32 in [0, 1], the scaling that an InputSpec names."""
    return images.to(torch.float32).div_(255)
