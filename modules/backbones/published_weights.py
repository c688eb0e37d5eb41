"""Files of weights as the field's repositories write them: what they are wrapped in, and which layer is which."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from modules.backbones.layer_order import (
    COUNTER,
    RUNNING,
    AmbiguousError,
    Fitted,
    State,
    fitted_by_order,
    fold_bias,
    left_out_lines,
)

# Under these names files hold a state_dict, in the order in which they are asked; others may hold the only one.
CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model_sd", "model", "state", "params", "net", "network")
DEPTH = 3  # containers in containers


def unwrapped(content: Any, path: str) -> tuple[State, list[str]]:
    """The state_dict in what a file holds, out of whatever it is wrapped in.

    Args:
        content: A mapping of names to tensors, or mappings around one, with other things beside it.
        path: Where it comes from, for errors.

    Returns:
        Names to tensors; and what is to be said of it.

    Raises:
        ValueError: If there is none, or there are several and none has a usual name.
    """
    lines = []
    for _ in range(DEPTH + 1):
        if not isinstance(content, Mapping):
            break
        inner = {str(k): v for k, v in content.items() if isinstance(v, Mapping) and _holds_weights(v)}
        chosen = next((name for name in CONTAINERS if name in inner), None)
        if chosen is None and (_is_state(content) or not inner):
            break
        if chosen is None and len(inner) > 1:
            raise ValueError(
                f"weights {path} hold several networks, {', '.join(map(repr, inner))}: save one of them alone."
            )
        chosen = next(iter(inner)) if chosen is None else chosen
        if len(inner) > 1:
            others = ", ".join(repr(name) for name in inner if name != chosen)
            lines.append(f"weights {path}: those of {chosen!r} are taken, not of {others}")
        content = inner[chosen]
    if not isinstance(content, Mapping) or not _is_state(content):
        raise ValueError(f"weights {path} hold no state_dict: give a file that maps names to tensors.")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}, lines


def _is_state(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(name, str) and isinstance(value, Tensor) and value.dim() for name, value in content.items())


def _holds_weights(content: Mapping[Any, Any], depth: int = DEPTH) -> bool:
    """Tells whether a state_dict is in it, at whatever depth; an optimiser's state has no names."""
    inner = (value for name, value in content.items() if isinstance(name, str) and isinstance(value, Mapping))
    return _is_state(content) or (depth > 0 and any(_holds_weights(value, depth - 1) for value in inner))


def fitted(own: Mapping[str, Tensor], state: State) -> Fitted | None:
    """A file's weights for a network: by their names, else by the order and the shapes of the layers.

    Args:
        own: The network's state_dict.
        state: The file's.

    Returns:
        None where they do not fit.

    Raises:
        AmbiguousError: If two parts of the file fit that hold different weights.
    """
    found = [fit for prefix in _prefixes(state) if (fit := _by_name(own, state, prefix)) is not None]
    by_order = False
    if not found:
        found, by_order = (
            [fit for prefix in _prefixes(state) if (fit := fitted_by_order(own, state, prefix)) is not None],
            True,
        )
    if not found:
        return None
    different = [fit for fit in found[1:] if any(not torch.equal(fit.state[n], found[0].state[n]) for n in own)]
    if different:
        how = "by their order" if by_order else "by their names"
        raise AmbiguousError(f"several parts of the file fit {how}, with different weights: save one of them alone")
    return found[0]


def _prefixes(state: State) -> list[str]:
    """Every beginning of names up to a dot, e.g. "module.encoder.", the shortest first, which is none."""
    found = {""}
    for name in state:
        parts = name.split(".")
        found |= {".".join(parts[:end]) + "." for end in range(1, len(parts))}
    return sorted(found, key=lambda prefix: (prefix.count("."), prefix))


# ---- by name


def _by_name(own: Mapping[str, Tensor], state: State, prefix: str) -> Fitted | None:
    """The weights under a prefix, where all of a network's are there and nothing else of its modules is."""
    part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    needed = {name for name in own if not name.endswith(COUNTER)}
    if not needed <= part.keys() or any(own[name].shape != part[name].shape for name in needed):
        return None
    tops = {name.partition(".")[0] for name in own}
    extra = [name for name in part if name not in own]
    inside = [name for name in extra if name.partition(".")[0] in tops]
    statistics = [name for name in inside if name.endswith((*RUNNING, COUNTER))]
    biases = [name for name in inside if _bias_before_norm(name, own, part)]
    if set(inside) - set(statistics) - set(biases):
        return None
    chosen = {name: part.get(name, value) for name, value in own.items()}
    for bias in biases:
        fold_bias(chosen, _next_layer(bias, part), part[bias])
    heads = [name for name in extra if name not in inside] + [name for name in state if not name.startswith(prefix)]
    return Fitted(chosen, left_out_lines(heads, statistics, biases))


def _bias_before_norm(name: str, own: Mapping[str, Tensor], part: State) -> bool:
    """Tells whether this is the bias of one of the network's layers, which has none, before a normalisation."""
    weight = f"{name.removesuffix('bias')}weight"
    following = _next_layer(name, part)
    return (
        name.endswith(".bias")
        and weight in own
        and own[weight].dim() > 1
        and f"{following}.weight" in own
        and own[f"{following}.weight"].shape == part[name].shape
    )


def _next_layer(name: str, part: State) -> str:
    """The layer whose variables come after those of the one that a variable is of."""
    layers = list(dict.fromkeys(other.rpartition(".")[0] for other in part))
    layers = sorted(layers, key=_natural)
    position = layers.index(name.rpartition(".")[0])
    return layers[position + 1] if position + 1 < len(layers) else ""


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)|\.", name) if part]


def described(state: Mapping[str, Tensor], shown: int = 3) -> Iterator[str]:
    """Describes a state_dict: the number of its tensors, and the first of them with their shapes."""
    yield f"{len(state):,} tensors"
    weights = [(name, value) for name, value in state.items() if value.dim()] or list(state.items())
    for name, value in weights[:shown]:
        yield f"{name} {tuple(value.shape)}"
