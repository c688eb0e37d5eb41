"""Random changes of images, on the device and for T tasks at once: a pure function of images and drawn numbers."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.episode import Episode
from datamodules.tasks.counter import random_bits

TRAINING_STREAM = 1 << 21  # keeps these draws apart from those of tasks and of mini-batches
N_DRAWS = 8  # numbers that one change takes: area, left, top, flip, angle, brightness, contrast, saturation
GREY = (0.2989, 0.587, 0.114)  # red, green and blue in a pixel's brightness, as in torchvision


@dataclass(frozen=True)
class Augmentation:
    """Random changes of images; with the defaults there are none.

    Args:
        crop: Smallest share of an image's area, in (0, 1], that a random window of its shape keeps and scales up again.
        flip: Whether half of the images are mirrored left to right; not for characters, which it makes others of.
        rotation: Largest angle in degrees, both ways, by which the window is turned about its centre.
        jitter: Brightness, contrast and saturation are each multiplied by a number in [1 - jitter, 1 + jitter].
        per: Whether each "image", each "class" of a task or a whole "task" is changed in a way of its own.
    """

    crop: float = 1.0
    flip: bool = False
    rotation: float = 0.0
    jitter: float = 0.0
    per: Literal["image", "class", "task"] = "image"

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise ValueError(f"augmentation.crop is a share of the area: it must be in (0, 1], got {self.crop}.")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"augmentation.rotation is an angle: it must be in [0, 180] degrees, got {self.rotation}.")
        if not 0 <= self.jitter < math.inf:
            raise ValueError(f"augmentation.jitter must be 0 (none) or more, got {self.jitter}.")
        if self.per not in ("image", "class", "task"):
            raise ValueError(f"augmentation.per must be one of image, class, task, got {self.per!r}.")

    @property
    def moves(self) -> bool:
        """Tells whether pixels change their places."""
        return self.crop < 1 or self.flip or self.rotation > 0

    @property
    def is_on(self) -> bool:
        """Tells whether anything is changed at all."""
        return self.moves or self.jitter > 0

    def describe(self) -> str:
        """Returns what is changed, as a result states it, e.g. "crop 0.5, flip, jitter 0.4, per image"."""
        parts = [
            f"crop {self.crop:g}" if self.crop < 1 else "",
            "flip" if self.flip else "",
            f"rotation {self.rotation:g}" if self.rotation else "",
            f"jitter {self.jitter:g}" if self.jitter else "",
        ]
        return ", ".join([*filter(None, parts), f"per {self.per}"])


# Checkpoints hold a data module's arguments and are loaded with weights_only=True.
# Checkpoints name a class by either path.
torch.serialization.add_safe_globals([Augmentation, (Augmentation, "datamodules.augmentation.Augmentation")])


def augmented(episode: Episode, seed: int, augmentation: Augmentation) -> Episode:
    """Changes the support and query images of training tasks; those of a task depend on its number alone.

    The numbers go shot by shot, as the images are drawn: an image is changed alike, however many follow it.

    Args:
        episode: T tasks of images in [0, 1], side by side by class, of every class as many; or groups of labelled
            examples, without a support set.
        seed: Seed of the training tasks.
        augmentation: What is changed; where nothing is, the episode itself is returned.
    """
    if not augmentation.is_on:
        return episode
    n_support, n_query = episode.task.x.shape[1], episode.query_x.shape[1]
    if n_support == 0:
        n = episode.task.n_way if augmentation.per == "class" else n_query
        own = draws_of_images(draw(seed, TRAINING_STREAM, episode.task_id, n), episode.query_y, augmentation)
        return episode._replace(query_x=augment(episode.query_x, own[:, :n_query], augmentation))
    draws = draw(seed, TRAINING_STREAM, episode.task_id, n_support + n_query)  # (T, S + Q, 8)
    if augmentation.per == "image":
        n_way = episode.task.n_way
        by_class = draws.unflatten(1, (-1, n_way)).transpose(1, 2)  # (T, n_way, k_shot + n_query, 8)
        parts = by_class.split([n_support // n_way, n_query // n_way], dim=2)
        draws = torch.cat([part.flatten(1, 2) for part in parts], dim=1)  # (T, S + Q, 8), as the images lie
    labels = torch.cat([episode.task.y, episode.query_y], dim=1)  # (T, S + Q)
    support, query = draws_of_images(draws, labels, augmentation).split([n_support, n_query], dim=1)
    task = episode.task._replace(x=augment(episode.task.x, support, augmentation))
    return episode._replace(task=task, query_x=augment(episode.query_x, query, augmentation))


def draw(seed: int, stream: int, task_id: Tensor, n: int) -> Tensor:
    """Draws the numbers of `n` changes for each task: (T,) int64 -> (T, n, 8) float32 in [0, 1), of 24 bits each."""
    bits = random_bits(seed, stream, task_id, n * N_DRAWS) >> 8  # (T, n * 8)
    return (bits * 2.0**-24).view(len(task_id), n, N_DRAWS)


def draws_of_images(draws: Tensor, labels: Tensor, augmentation: Augmentation) -> Tensor:
    """Gives every image its draws: its own, those of its class or those of its task.

    Args:
        draws: (T, B, 8), more than enough where they are shared.
        labels: (T, B), int64, each the place of one of the draws.
        augmentation: Its `per` decides.

    Returns:
        (T, B, 8).
    """
    if augmentation.per == "image":
        return draws
    if augmentation.per == "task":
        return draws[:, :1].expand_as(draws)
    return draws.take_along_dim(labels.unsqueeze(-1), dim=1)


def augment(images: Tensor, draws: Tensor, augmentation: Augmentation) -> Tensor:
    """Changes each image by its own draws: window, rotation and mirror first, then the colours.

    Args:
        images: (T, B, C, H, W), float in [0, 1].
        draws: (T, B, 8) in [0, 1); see `draw`.
        augmentation: What is changed.

    Returns:
        (T, B, C, H, W) in [0, 1], of the images' type; the images themselves where nothing is changed.
    """
    if not augmentation.is_on:
        return images
    flat = images.flatten(0, 1).to(torch.promote_types(images.dtype, torch.float32))  # (T * B, C, H, W)
    # A row for each number: with other strides the same cosine may come out of another routine.
    rows = draws.flatten(0, 1).to(flat.dtype).T.contiguous()  # (8, T * B)
    if augmentation.moves:
        flat = _moved(flat, rows[:5], augmentation)
    if augmentation.jitter:
        low, high = max(0.0, 1 - augmentation.jitter), 1 + augmentation.jitter
        flat = jittered(flat, *(low + (high - low) * rows[5:]))
    return flat.to(images.dtype).view_as(images)


def _moved(images: Tensor, rows: Tensor, augmentation: Augmentation) -> Tensor:
    """Images (N, C, H, W) seen through their windows; rows (5, N) of numbers in [0, 1)."""
    area, left, top, flip, angle = rows
    side = (1 - (1 - augmentation.crop) * area).sqrt()
    radians = (2 * angle - 1) * math.radians(augmentation.rotation)
    sign = 1 - 2 * ((flip < 0.5) & augmentation.flip).to(side.dtype)
    return windows(images, side, (1 - side) * (2 * left - 1), (1 - side) * (2 * top - 1), radians, sign)


def windows(images: Tensor, side: Tensor, x: Tensor, y: Tensor, radians: Tensor, sign: Tensor) -> Tensor:
    """Looks at each image through a turned and perhaps mirrored window, scaled up to the image's size.

    The picture is turned counter-clockwise about the window's centre, then mirrored. All of it is one affine map, so
    that pixels are interpolated (bilinear) once. No antialiasing: a window is never larger than its image. What a
    turned window shows from beyond the image is reflected at the edge; torchvision's default is black, whose corners
    tell a network the angle.

    Args:
        images: (N, C, H, W), float.
        side: (N,), the window's sides as a share of the image's.
        x: (N,), its centre, from -1 (left edge) to 1 (right edge).
        y: (N,), from -1 (top) to 1 (bottom).
        radians: (N,), the angle.
        sign: (N,), -1 where it is mirrored left to right, else 1.

    Returns:
        (N, C, H, W).
    """
    height, width = images.shape[-2:]
    cosine, sine = side * radians.cos(), side * radians.sin()
    # By hand rather than by affine_grid, whose matrix product autocast would round.
    u = (torch.arange(width, device=images.device, dtype=side.dtype) * 2 + 1) / width - 1  # (W,), of pixels' centres
    v = ((torch.arange(height, device=images.device, dtype=side.dtype) * 2 + 1) / height - 1).unsqueeze(1)  # (H, 1)
    column, row = (sign * cosine).view(-1, 1, 1) * u, (sign * sine * width / height).view(-1, 1, 1) * u  # (N, 1, W)
    across = column - (sine * height / width).view(-1, 1, 1) * v + x.view(-1, 1, 1)  # (N, H, W)
    down = row + cosine.view(-1, 1, 1) * v + y.view(-1, 1, 1)  # (N, H, W)
    grid = torch.stack([across, down], dim=-1)  # (N, H, W, 2)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def jittered(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Multiplies brightness, then contrast, then saturation, as torchvision's ColorJitter defines each.

    Deviation: ColorJitter draws the order too; here it is always this one.

    Args:
        images: (N, C, H, W) in [0, 1]; saturation is for three channels only.
        brightness: (N,), factors >= 0; 1 changes nothing.
        contrast: (N,).
        saturation: (N,).

    Returns:
        (N, C, H, W) in [0, 1].
    """
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in (brightness, contrast, saturation))
    images = (images * brightness).clamp_(0, 1)  # a copy, changed in place from here on: new memory costs more
    mean = _grey(images).mean((1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
    images.mul_(contrast).add_((1 - contrast) * mean).clamp_(0, 1)
    if images.shape[1] == 3:
        grey = _grey(images).mul_(1 - saturation)  # (N, 1, H, W)
        images.mul_(saturation).add_(grey).clamp_(0, 1)
    return images


def _grey(images: Tensor) -> Tensor:
    """(N, C, H, W) to (N, 1, H, W), where there are three channels."""
    if images.shape[1] != 3:
        return images
    red, green, blue = images.unbind(1)
    return (red * GREY[0] + green * GREY[1] + blue * GREY[2]).unsqueeze(1)
