"""Images of one size and number of channels, made those that a trained learner takes."""

import torch
from torch import Tensor
from torch.nn import functional

GREY = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R 601-2, as Pillow makes images grey


def brought_to(images: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Makes images grey or colour and resizes them; those that fit already are returned as they are.

    Args:
        images: (..., C, H, W) in [0, 1], of 1 channel or 3.
        image_shape: (C', H', W') of the result.

    Returns:
        (..., C', H', W') in [0, 1]: grey by ITU-R 601-2, colour by three equal channels, resized by an antialiased
        bilinear filter.

    Example:
        >>> brought_to(torch.ones(2, 3, 4, 4), (1, 2, 2)).shape
        torch.Size([2, 1, 2, 2])
    """
    channels, *size = image_shape
    if images.shape[-3] == 3 and channels == 1:
        weights = torch.tensor(GREY, device=images.device, dtype=images.dtype).view(3, 1, 1)
        images = (images * weights).sum(-3, keepdim=True)  # (..., 1, H, W)
    if list(images.shape[-2:]) != size:
        flat = images.flatten(0, -4) if images.dim() > 3 else images.unsqueeze(0)  # (B, C, H, W)
        resized = functional.interpolate(flat, size, mode="bilinear", antialias=True).clamp(0, 1)
        images = resized.view(*images.shape[:-2], *size)
    return images.expand(*images.shape[:-3], channels, *size)
