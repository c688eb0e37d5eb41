"""Weights that a network begins from: a file's, or none where a checkpoint's follow."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from torch import Tensor, nn

from modules.backbones.layer_order import AmbiguousError
from modules.backbones.published_weights import described, fitted, unwrapped
from modules.backbones.trained_images import images_of_file

OWN_PREFIXES = ("network.backbone.", "network.")  # of a backbone's entries in a checkpoint of ours

_FOLLOW = ContextVar("weights_follow", default=False)


@contextmanager
def weights_follow() -> Iterator[None]:
    """Networks built in here begin from no file and fetch nothing: a checkpoint is about to give them their weights."""
    token = _FOLLOW.set(True)
    try:
        yield
    finally:
        _FOLLOW.reset(token)


def weights_will_follow() -> bool:
    """Tells whether this is inside `weights_follow`."""
    return _FOLLOW.get()


def read_weights(path: str) -> dict[str, Tensor]:
    """Reads a file of weights; nothing in it is executed.

    Args:
        path: A .safetensors file, or one that torch.save wrote: a bare state_dict, one inside "state_dict", "model",
            "params" or the like, or a checkpoint of this application, of which the backbone's entries are taken.

    Returns:
        A network's parameters and buffers by name.

    Raises:
        ValueError: If the file is not there or holds no weights.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(
            f"weights {path}: there is no such file; give that of a .safetensors, .pth, .bin or .ckpt file."
        )
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file  # comes with timm

            return dict(load_file(file))
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken file makes of the readers
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code:
            raise ValueError(
                f"weights {path} hold {code[1]}, and nothing but tensors is loaded: save the network's state_dict() "
                "alone, as a .safetensors file or by torch.save."
            ) from error
        raise ValueError(f"weights {path} cannot be read: they are no file of safetensors or torch.save.") from error
    state, lines = unwrapped(content, path)
    _say(lines)
    return _of_backbone(state)


def _of_backbone(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in OWN_PREFIXES:
        part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if part:
            return part
    return state


def load_weights(network: nn.Module, state: Mapping[str, Tensor], path: str) -> None:
    """Copies weights into a network that they fit: by name below any prefix, else by the order of kinds and shapes.

    What is left out, as a classifier's head, and what was matched by order is said in a line.

    Args:
        network: Takes them.
        state: A file's parameters and buffers by name.
        path: Where they come from, for messages.

    Raises:
        ValueError: If they do not fit, or several parts of the file do; says what the file holds.
    """
    own = network.state_dict()
    try:
        found = fitted(own, dict(state))
    except AmbiguousError as error:
        raise ValueError(f"weights {path} do not fit this {type(network).__name__}: {error}.") from error
    if found is not None:
        _say([f"weights {path}: {line}" for line in found.lines])
        network.load_state_dict(found.state)
        network.trained_images = images_of_file(path)  # of the file's own training
        return
    holds, takes = ("; ".join(described(each)) for each in (state, own))
    wrong = "; ".join(_differences(own, state))
    raise ValueError(
        f"weights {path} do not fit this {type(network).__name__}: they hold {wrong}. The file holds {holds}; "
        f"the network takes {takes}. Set the network's arguments as they were, or give another file."
    )


def _differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """What is missing, left over and of another shape, by name; the first of each, and how many there are more."""
    kinds = (
        [f"no {name}" for name in own if name not in state],
        [f"{name}, which it has not" for name in state if name not in own],
        [
            f"{name} of {tuple(state[name].shape)} for its {tuple(own[name].shape)}"
            for name in own
            if name in state and own[name].shape != state[name].shape
        ],
    )
    return [f"{found[0]}{f' and {len(found) - 1} more like it' if len(found) > 1 else ''}" for found in kinds if found]


def _say(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)
