"""Matches the layers of a file and of a network whose names differ, by the order of kinds and shapes."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

COUNTER = "num_batches_tracked"
RUNNING = ("running_mean", "running_var")
LEAF = rf"\.(weight|bias|{'|'.join(RUNNING)}|{COUNTER})$"  # of a layer's variables

State = dict[str, Tensor]


class Fitted(NamedTuple):
    """A file's weights under a network's own names, and what was done to them."""

    state: State
    lines: list[str]  # for the user


class AmbiguousError(ValueError):
    """More than one part of a file fits, or more than one order of its layers."""


class _Layer(NamedTuple):
    """The variables of one layer of a file or a network."""

    name: str
    leaves: dict[str, Tensor]

    @property
    def kind(self) -> str:
        dims = self.leaves["weight"].dim()
        return "norm" if dims == 1 else "linear" if dims == 2 else "conv"

    @property
    def shape(self) -> torch.Size:
        return self.leaves["weight"].shape


def fitted_by_order(own: Mapping[str, Tensor], state: State, prefix: str) -> Fitted | None:
    """The weights of the layers under a prefix, where these are of a network's kinds and shapes, in its order.

    Args:
        own: The network's state_dict.
        state: The file's.
        prefix: "" or the beginning of some names.

    Returns:
        None where they are not.

    Raises:
        AmbiguousError: If a file that is sorted by name has lost the order of layers of one shape.
    """
    part = {name: value for name, value in state.items() if name.startswith(prefix)}
    wanted, layers = _layers(own), _without_aliases(_layers(part))
    if not wanted or sum(len(layer.leaves) for layer in wanted) != len(own):
        return None
    for order in _orders(layers):
        used = [layer for layer in order if layer.kind in {w.kind for w in wanted}][: len(wanted)]
        rest = [layer for layer in layers if all(layer is not other for other in used)]
        if [(w.kind, w.shape) for w in wanted] != [(u.kind, u.shape) for u in used]:
            continue
        if any(layer.kind == "conv" for layer in rest):
            continue
        if order is layers and _is_sorted(layers):
            _check_numbered(used)
        chosen = _taken(own, wanted, used)
        if chosen is not None:
            known = {f"{layer.name}.{leaf}" for layer in _layers(part) for leaf in layer.leaves}
            heads = [f"{layer.name}.weight" for layer in rest] + [n for n in state if n not in known]
            matched = (
                f"matched by the order and the shapes of {len(wanted)} layers, {used[0].name} as {wanted[0].name} to "
                f"{used[-1].name} as {wanted[-1].name}; stride, padding and pooling are not in a file"
            )
            return Fitted(chosen[0], [matched, *left_out_lines(heads, chosen[1], chosen[2])])
    return None


def _taken(
    own: Mapping[str, Tensor], wanted: list[_Layer], used: list[_Layer]
) -> tuple[State, list[str], list[str]] | None:
    """The network's state from the file's layers, statistics that it leaves out, and biases that were folded."""
    chosen, statistics, biases = dict(own), list[str](), list[str]()
    for position, (mine, theirs) in enumerate(zip(wanted, used, strict=True)):
        for leaf in mine.leaves.keys() - {COUNTER}:
            if leaf not in theirs.leaves:
                return None
            chosen[f"{mine.name}.{leaf}"] = theirs.leaves[leaf]
        if COUNTER in mine.leaves and COUNTER in theirs.leaves:
            chosen[f"{mine.name}.{COUNTER}"] = theirs.leaves[COUNTER]
        for leaf in theirs.leaves.keys() - mine.leaves.keys() - {COUNTER}:
            if leaf in RUNNING:
                statistics.append(f"{theirs.name}.{leaf}")
            elif leaf == "bias" and position + 1 < len(wanted) and wanted[position + 1].kind == "norm":
                biases.append(f"{theirs.name}.{leaf}")
            else:
                return None
    for theirs, norm in zip(used, wanted[1:], strict=False):
        if f"{theirs.name}.bias" in biases:
            fold_bias(chosen, norm.name, theirs.leaves["bias"])
    return chosen, statistics, biases


def _layers(state: Mapping[str, Tensor]) -> list[_Layer]:
    """The layers that have a weight, in the order of their variables; a .safetensors file has counters first."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in sorted(state.items(), key=lambda item: item[0].endswith(COUNTER)):
        layer, _, leaf = name.rpartition(".")
        found.setdefault(layer, {})[leaf] = value
    return [_Layer(name, leaves) for name, leaves in found.items() if "weight" in leaves and leaves["weight"].dim()]


def _without_aliases(layers: list[_Layer]) -> list[_Layer]:
    """The layers without those that a file holds a second time, under another name.

    A convolution is the same where its weights are; a normalisation where it also follows the same one.
    """
    kept: list[_Layer] = []
    twin: _Layer | None = None  # of the layer before, where that is held twice
    for layer in layers:
        position = next((i for i, other in enumerate(kept) if other is twin), -2) + 1
        if layer.kind == "norm":
            follows = kept[position] if 0 < position < len(kept) else None
            twin = follows if follows is not None and _equal(layer, follows) else None
        else:
            twin = next((other for other in kept if other.kind == layer.kind and _equal(layer, other)), None)
        if twin is None:
            kept.append(layer)
    return kept


def _equal(one: _Layer, other: _Layer) -> bool:
    return one.leaves.keys() == other.leaves.keys() and all(
        torch.equal(v, other.leaves[n]) for n, v in one.leaves.items()
    )


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", name))


def _block(layer: _Layer) -> tuple[tuple[int, ...], bool]:
    """Sorts the layers of blocks that are numbered alike: what is normalised before its normalisation."""
    return _numbers(layer.name), layer.kind == "norm"


def _orders(layers: list[_Layer]) -> list[list[_Layer]]:
    """The orders in which a file's layers may follow each other: its own, and that of the numbers in their names."""
    by_number = sorted(layers, key=_block)
    if _counts_upwards(layers):
        return [layers, by_number]
    return [by_number] if _is_sorted(layers) else []


def _is_sorted(layers: list[_Layer]) -> bool:
    """Tells whether the layers come in alphabetical order, as in a .safetensors file, which keeps no other."""
    names = [layer.name for layer in layers]
    return names == sorted(names)


def _check_numbered(layers: list[_Layer]) -> None:
    """Checks that names in alphabetical order say by numbers in which order layers of one shape follow each other."""
    patterns: dict[tuple[str, torch.Size], set[str]] = {}
    for layer in layers:
        patterns.setdefault((layer.kind, layer.shape), set()).add(re.sub(r"\d+", "#", layer.name))
    if several := next((names for names in patterns.values() if len(names) > 1), None):
        raise AmbiguousError(
            f"the file is sorted by name, and names such as {' and '.join(sorted(several)[:2])} do not say which layer "
            "of one shape comes first: save it by torch.save, in the order of the network"
        )


def _counts_upwards(layers: list[_Layer]) -> bool:
    """Tells whether names that differ in their numbers alone come in the order of these."""
    last: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        pattern, numbers = re.sub(r"\d+", "#", layer.name), _numbers(layer.name)
        if numbers < last.get(pattern, ()):
            return False
        last[pattern] = numbers
    return True


def fold_bias(state: State, norm: str, bias: Tensor) -> None:
    """Takes a bias before a normalisation into its running mean; a batch's own mean takes it out again."""
    if (mean := state.get(f"{norm}.running_mean")) is not None:
        state[f"{norm}.running_mean"] = mean - bias


def left_out_lines(heads: list[str], statistics: list[str], biases: list[str]) -> list[str]:
    """Describes a file's variables that have no place in the network."""
    lines = []
    if layers := list(dict.fromkeys(re.sub(LEAF, "", name) for name in heads)):
        shown = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
        lines.append(f"left out, as the backbone has no such layer: {shown}")
    if any(name.endswith(RUNNING) for name in statistics):
        lines.append(
            "the running statistics are left out, as this network normalises by its batch: set its running_stats to "
            "true to take them"
        )
    if biases:
        lines.append(f"{len(biases)} biases before a normalisation are taken into it, which changes no output")
    return lines
