"""MAML's inner loop by learn2learn, task by task: the reference that the other strategies are held against."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.episode import Support
from modules.functional.networks import Variables


def learn2learn_inner_loop(
    network: nn.Module,
    buffers: Variables,
    support: Support,
    loss: Callable[[Tensor, Tensor], Tensor],
    lr: float,
    steps: int,
    first_order: bool,
) -> Iterator[Variables]:
    """Adapts one clone of the network for each task.

    Takes any network, also one that cannot be vmapped, but differentiates with respect to the network's own parameters
    only.

    Args:
        network: The learner's network.
        buffers: Its buffers by name; in training (T, *shape), each task's copy, which its steps update in place.
        support: (T, S, ...) examples and labels.
        loss: The objective's loss.
        lr: Inner step size.
        steps: Inner steps.
        first_order: Drop the second derivatives.

    Yields:
        The fast weights after 0, 1, ..., `steps` steps: "network." + name -> (T, *shape).
    """
    maml = _algorithms().MAML(network, lr=lr, first_order=first_order)
    with torch.enable_grad():
        clones = [maml.clone() for _ in support.x]
    if network.training:  # else the clones share the network's own buffers, and would update those
        for t, clone in enumerate(clones):
            _replace_buffers(clone.module, {name: buffer[t] for name, buffer in buffers.items()})
    yield _stacked(clones)
    for _ in range(steps):
        with torch.enable_grad():
            for clone, x, y in zip(clones, support.x, support.y, strict=True):
                clone.adapt(loss(clone(x), y).mean(), allow_nograd=True)  # frozen parameters
        yield _stacked(clones)


def _replace_buffers(network: nn.Module, buffers: Variables) -> None:
    for name, buffer in buffers.items():
        owner, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(owner), leaf, buffer)


def _stacked(clones: list[Any]) -> Variables:
    params = [dict(clone.module.named_parameters()) for clone in clones]
    return {f"network.{name}": torch.stack([task[name] for task in params]) for name in params[0]}


def _algorithms() -> Any:
    """Imported when first used: it takes three seconds and prints gym's notice of its end of life."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        from learn2learn import algorithms
    return algorithms
