"""Any network of PyTorch as a backbone."""

from collections.abc import Iterator
from typing import Any

import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from modules.backbones.backbone import Backbone

IMAGE_SIZES = (28, 32, 64, 84, 224)  # that are tried, in pixels
GIVEN_AS_MODULE = "given as a module: "  # begins what stands in a module's place in a checkpoint
SHAPES = ((1, 28, 28), (3, 84, 84), (3, 224, 224), (1,))  # where the layers do not say how many channels they take


def as_backbone(network: nn.Module) -> Backbone:
    """The network itself where it is a Backbone, or else as one, whose features are its outputs, flattened.

    Args:
        network: Takes examples (B, *input_shape). Its attributes `input_shape` and `feature_dim` are believed where it
            has them. Else the length of its features is found out by running it on two examples of zeros, whose shape
            its first layer suggests; of images whose size matters, those of 28 x 28 pixels. That changes neither
            statistics nor random number generators.

    Returns:
        A Backbone, whose `input_shape` is () where the network does not say it.

    Raises:
        ValueError: If this is no module, or what it gives cannot be found out.
    """
    check_given("backbone", network)
    backbone = network if isinstance(network, Backbone) else _Wrapped.of(network)
    if not isinstance(getattr(backbone, "feature_dim", None), int):
        backbone.feature_dim = probed_dim(backbone, backbone.input_shape)
    return backbone


def check_features(backbone: Backbone, input_shape: tuple[int, ...]) -> None:
    """Checks that a backbone which does not say what it takes gives for the data's examples what a learner was told.

    Args:
        backbone: A learner's.
        input_shape: Of an example of the data.

    Raises:
        ValueError: If it takes no such example, or gives features of another length for it.
    """
    if backbone.input_shape:
        return
    length = probed_dim(backbone, input_shape)
    if length != backbone.feature_dim:
        raise ValueError(
            f"the backbone gives {length} features for the data's examples of shape {input_shape}, and the learner was "
            f"made for {backbone.feature_dim}: set backbone.input_shape = {input_shape} before you give it."
        )


class _Wrapped(Backbone):
    """A network of a user's own; made by `as_backbone` alone, so that no configuration builds one."""

    module: nn.Module

    @classmethod
    def of(cls, network: nn.Module) -> "_Wrapped":
        """The backbone that a network is."""
        backbone = cls()
        backbone.module = network
        backbone.input_shape = tuple(getattr(network, "input_shape", ()))
        known = getattr(network, "feature_dim", None)
        backbone.feature_dim = known if isinstance(known, int) else probed_dim(network, backbone.input_shape)
        return backbone

    def embed(self, images: Tensor) -> Tensor:
        """Examples (B, *input_shape) to features (B, D)."""
        features: Tensor = self.module(images)
        return features.flatten(1)


def probed_dim(network: nn.Module, input_shape: tuple[int, ...]) -> int:
    """D, the length of what a network gives for one example, flattened.

    Args:
        network: On any device; stays as it is.
        input_shape: Of one example; (): the first of those that suit its layers and that it takes.

    Raises:
        ValueError: If it takes none of them, or gives something else than a tensor of a row for each example.
    """
    name, tried = type(getattr(network, "module", network)).__name__, []
    if any(is_lazy(value) for value in [*network.parameters(), *network.buffers()]):
        raise ValueError(
            f"the backbone {name} has layers whose size is still open, such as LazyLinear: run it on one example "
            "before you give it."
        )
    for shape in [input_shape] if input_shape else _shapes(network):
        try:
            outputs = outputs_of_zeros(network, shape)
        except Exception as error:  # whatever a network makes of inputs that are not for it
            tried.append(f"{tuple(shape)} ({' '.join(str(error).split())[:120]})")
            continue
        if not isinstance(outputs, Tensor) or outputs.dim() < 2 or len(outputs) != 2:
            kind = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ValueError(
                f"the backbone {name} must give one tensor (B, D), and gives {kind} for two examples: wrap it in a "
                "module that gives its features alone."
            )
        return outputs[0].numel()
    if input_shape:
        raise ValueError(
            f"the backbone {name} cannot take an example of shape {tried[0]}: give it other layers, or the learner "
            "other data."
        )
    raise ValueError(
        f"the backbone {name} takes no example that was tried, as of shape {tried[0]}: set its attribute input_shape, "
        "as in backbone.input_shape = (3, 84, 84), before you give it."
    )


def outputs_of_zeros(network: nn.Module, input_shape: tuple[int, ...]) -> object:
    """Returns the output of a network for two examples of zeros in evaluation.

    Its statistics and modes stay as they are.

    Args:
        network: On any device.
        input_shape: Of one example.
    """
    values = [*network.parameters(), *network.buffers()]
    like = next((value for value in values if value.is_floating_point()), torch.empty(0))
    modes = {layer: layer.training for layer in network.modules()}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        with torch.no_grad(), isolate_rng():
            outputs: object = functional_call(network.eval(), buffers, (torch.zeros(2, *input_shape).to(like),))
            return outputs
    finally:
        for layer, training in modes.items():
            layer.training = training


def _shapes(network: nn.Module) -> Iterator[tuple[int, ...]]:
    """The shapes that examples may have, by the first layer with weights."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    first = next((layer for layer in network.modules() if isinstance(layer, kinds)), None)
    if isinstance(first, nn.Linear):
        yield (first.in_features,)
        yield from ((channels, size, size) for channels in (1, 3) for size in IMAGE_SIZES)
    elif first is None:
        yield from SHAPES
    else:
        n_axes = {nn.Conv1d: 1, nn.Conv2d: 2}.get(type(first), 3)
        yield from ((first.in_channels, *[size] * n_axes) for size in IMAGE_SIZES)


def check_given(name: str, value: Any) -> None:
    """Refuses what a checkpoint holds in a module's place, or another value that is no module.

    Args:
        name: The argument's.
        value: What a constructor was given.

    Raises:
        ValueError: If it is no module.
    """
    if isinstance(value, nn.Module):
        return
    if isinstance(value, str) and value.startswith(GIVEN_AS_MODULE):
        raise ValueError(
            f"the checkpoint's learner was given its {name} as a module ({value.removeprefix(GIVEN_AS_MODULE)}), of "
            f"which a checkpoint holds the weights alone: pass it again, as in load_from_checkpoint(path, {name}=...)."
        )
    hint = f": write {value.__name__}(...)" if isinstance(value, type) else ""
    raise ValueError(f"{name} must be a torch.nn.Module, got {value!r}{hint}.")
