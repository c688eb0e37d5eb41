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
    yield _stacked(clones)
    for _ in range(steps):
        with torch.enable_grad():
            for clone, x, y in zip(clones, support.x, support.y, strict=True):
                clone.adapt(loss(clone(x), y).mean())
        yield _stacked(clones)


def _stacked(clones: list[Any]) -> Variables:
    params = [dict(clone.module.named_parameters()) for clone in clones]
    return {f"network.{name}": torch.stack([task[name] for task in params]) for name in params[0]}


def _algorithms() -> Any:
    """Imported when first used: it takes three seconds and prints gym's notice of its end of life."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        from learn2learn import algorithms
    return algorithms
