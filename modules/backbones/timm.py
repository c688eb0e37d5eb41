"""Any network of the timm library as a backbone."""

import difflib
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from torch import Tensor, nn

from modules.backbones.backbone import Backbone
from modules.backbones.weights import load_weights, read_weights, weights_will_follow

COPIED_FROM = "model."  # the prefix of this class's own weights


class Timm(Backbone):
    """A network of the timm library, without its output layer. It takes images in [0, 1] and scales them itself.

    Args:
        name: One of `timm.list_models()`, with or without a tag (.augreg_in21k) that says whose weights; the default is
            the self-supervised backbone of P > M > F (Hu et al. 2022).
        pretrained: Begin from the weights that timm fetches for this name.
        weights: A file to begin from instead: the network's state_dict, or a checkpoint of a learner with it.
        image_size: H = W of the images, in pixels; None: as the weights were trained. A vision transformer's position
            embeddings are interpolated.
        in_channels: 3, or 1: grey images are taken as colour ones of three equal channels.
        frozen: Keep the weights as they are.

    Reference:
        Wightman, "PyTorch Image Models", 2019.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "vit_small_patch16_224.dino",
        pretrained: bool = True,
        weights: str | None = None,
        image_size: int | None = None,
        in_channels: int = 3,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise ValueError(f"{name} takes images of 1 or 3 channels, got in_channels = {in_channels}.")
        fetch = pretrained and weights is None and not weights_will_follow()
        self.model, cfg = _model(name, image_size, fetch)
        if weights is not None and not weights_will_follow():
            _load(self.model, cfg, weights)
        for key in ("mean", "std"):
            value = torch.tensor(cfg[key]).view(-1, 1, 1)  # (3, 1, 1)
            self.register_buffer(key, value, persistent=False)
        height, width = cfg["input_size"][1:] if image_size is None else (image_size, image_size)
        self.input_shape = (in_channels, height, width)
        self.feature_dim = self._probed_dim(name)
        if frozen:
            self.freeze()

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        colour = images.expand(-1, 3, -1, -1)  # (B, 3, H, W)
        features: Tensor = self.model((colour - self.mean) / self.std)
        return features

    def _probed_dim(self, name: str) -> int:
        """D, found out by one image: not every network of the library states it."""
        training = self.model.training
        try:
            with torch.no_grad():
                features = self.model.eval()(torch.zeros(1, 3, *self.input_shape[1:]))
        except Exception as error:  # an assertion, a negative size, ...
            raise ValueError(
                f"{name} cannot take images of {self.input_shape[1]}x{self.input_shape[2]} pixels: set image_size to "
                f"another size, or leave it out for the network's own ({_first_line(error)})."
            ) from error
        finally:
            self.model.train(training)
        if features.dim() != 2:
            raise ValueError(f"{name} gives no feature vector but {tuple(features.shape)}: choose another network.")
        return int(features.shape[1])


def _model(name: str, image_size: int | None, fetch: bool) -> tuple[nn.Module, dict[str, Any]]:
    """The network and what timm knows of it; timm is imported when first used, which takes three seconds."""
    import timm

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else "python -c 'import timm; print(timm.list_models())' lists them."
        raise ValueError(f"timm has no network {name!r}; {hint}")
    pretrained_cfg = timm.get_pretrained_cfg(name) if name in timm.list_pretrained() else None
    if "." in name and pretrained_cfg is None:
        tagged = timm.list_pretrained(f"{architecture}.*")
        raise ValueError(f"timm has no weights {name!r}; there are {', '.join(tagged) or 'none of this network'}.")
    sized = image_size is not None and _is_built_for_a_size(timm, architecture)
    arguments: dict[str, Any] = {"num_classes": 0, **({"img_size": image_size} if sized else {})}
    try:
        with _offline_where_unreachable():
            model = timm.create_model(name, pretrained=fetch, **arguments)
    except Exception as error:
        if not fetch:
            raise ValueError(f"timm cannot build {name}: {_first_line(error)}.") from error
        raise ValueError(
            f"the weights of {name} are not here and cannot be fetched ({_first_line(error)}): put their file on this "
            "machine and set the backbone's weights to its path, or pretrained to false."
        ) from error
    cfg: Any = model.pretrained_cfg
    return model, dict(cfg)


def _is_built_for_a_size(timm: Any, architecture: str) -> bool:
    cfg = timm.get_pretrained_cfg(architecture)
    return cfg is not None and bool(cfg.fixed_input_size)


@contextmanager
def _offline_where_unreachable() -> Iterator[None]:
    """Without a network the weights come from the hub's cache or not at all, instead of after half a minute's tries."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        if not getproxies():
            socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _load(model: nn.Module, cfg: dict[str, Any], path: str) -> None:
    """Loads a file's weights as timm would: renamed and resized where the network's module says how, without a head.

    Raises:
        ValueError: If they do not fit.
    """
    state = {name.removeprefix(COPIED_FROM): value for name, value in read_weights(path).items()}
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    heads = cfg.get("classifier") or ()
    dropped = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads) if head)
    if convert is not None:
        try:
            state = convert(state, model)
        except Exception as error:  # a file of another network can do anything to a conversion
            what = f"timm cannot convert it ({_first_line(error)})"
            raise ValueError(f"weights {path} do not fit {cfg.get('architecture')}: {what}.") from error
    load_weights(model, {name: value for name, value in state.items() if not name.startswith(dropped)}, path)


def _first_line(error: Exception) -> str:
    """Its first sentence, where it has several."""
    line = str(error).strip().partition("\n")[0]
    return line.partition(". ")[0].rstrip(".:") or type(error).__name__
