"""The features of a frozen backbone, which stay the same and so need computing only once."""

import hashlib
import json
import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from modules.backbones.backbone import Backbone
from modules.functional.matmul_precision import matmul_precision_on

AT_ONCE = 128  # images; more give no further speed


class FrozenEmbedding(NamedTuple):
    """What a data module needs to keep features in place of images."""

    embed: Callable[[Tensor], Tensor]  # images (B, C, H, W) in float32, on any device, to features (B, D) in float32
    key: Callable[[], str]  # of the network and the weights that it has when asked


def frozen_embedding(backbone: Backbone | None) -> FrozenEmbedding | None:
    """The embedding that never changes, where there is one."""
    if backbone is None or not passes_features(backbone):
        return None
    return FrozenEmbedding(lambda images: embed_images(backbone, images), lambda: _key(backbone))


def passes_features(backbone: Backbone) -> bool:
    """Tells whether the backbone takes features in place of images; one with a `forward` of its own may not."""
    return backbone.frozen and len(backbone.input_shape) > 1 and type(backbone).forward is Backbone.forward


@torch.no_grad()
def embed_images(backbone: Backbone, images: Tensor) -> Tensor:
    """A frozen backbone's features, a few images at a time and in float32 under mixed precision too.

    Args:
        backbone: On any device.
        images: (B, C, H, W), on any device.

    Returns:
        (B, D), on the backbone's device, in float32 or what the images have that is more precise.
    """
    like = next(backbone.parameters())
    dtype = torch.promote_types(images.dtype, torch.float32)
    with torch.autocast(like.device.type, enabled=False):
        parts = [backbone.embed(part.to(like)).to(dtype) for part in images.split(AT_ONCE)]
    return torch.cat(parts)


def computed_with(backbone: Backbone) -> dict[str, str]:
    """Returns what the features' last digits depend on beside layers and weights: device, precision and libraries."""
    like = next(backbone.parameters())
    roots = {type(layer).__module__.partition(".")[0] for layer in backbone.modules()} | {"torch"}
    versions = {root: str(getattr(sys.modules.get(root), "__version__", "")) for root in sorted(roots)}
    return {
        "device": like.device.type,
        "precision": str(like.dtype),
        "products": matmul_precision_on(like.device.type),
        **versions,
    }


def _key(backbone: Backbone) -> str:
    """Hashes the network's layers, their settings, every weight and statistic, and what they are computed with."""
    settings = {
        name: {key: value for key, value in vars(layer).items() if isinstance(value, str | int | float | tuple)}
        for name, layer in backbone.named_modules()
    }
    for values in settings.values():
        values.pop("training", None)
    kinds = [f"{name}: {type(layer).__module__}.{type(layer).__qualname__}" for name, layer in backbone.named_modules()]
    digest = hashlib.blake2b(
        json.dumps([kinds, settings, computed_with(backbone)], default=str).encode(), digest_size=16
    )
    for name, value in [*backbone.named_parameters(), *backbone.named_buffers()]:
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
