"""MAML's inner loop by learn2learn, task by task: the reference that the other strategies are held against."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Set
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.episode import Task
from modules.functional.tasks.networks import Variables


def learn2learn_inner_loop(
    network: nn.Module,
    buffers: Variables,
    task: Task,
    loss: Callable[[Tensor, Tensor], Tensor],
    lr: float,
    steps: int,
    first_order: bool,
    fast: Set[str],
) -> Iterator[Variables]:
    """Adapts one clone of the network for each task.

    Takes any network, also one that cannot be vmapped, but differentiates with respect to the network's own parameters
    only.

    Args:
        network: The learner's network.
        buffers: Its buffers by name; in training (T, *shape), each task's copy, which its steps update in place.
        task: T tasks.
        loss: The objective's loss.
        lr: Inner step size.
        steps: Inner steps.
        first_order: Drop the second derivatives.
        fast: Names of the parameters that the steps move; the others stay.

    Yields:
        The fast weights after 0, 1, ..., `steps` steps: "network." + name -> (T, *shape).
    """
    algorithms = _algorithms()
    maml = algorithms.MAML(network, lr=lr, first_order=first_order)
    with torch.enable_grad():
        clones = [maml.clone() for _ in task.x]
    if network.training:  # else the clones share the network's own buffers, and would update those
        for t, clone in enumerate(clones):
            _replace_buffers(clone.module, {name: buffer[t] for name, buffer in buffers.items()})
    yield _stacked(clones)
    for _ in range(steps):
        with torch.enable_grad():
            for clone, x, y in zip(clones, task.x, task.y, strict=True):
                gradients = _gradients(loss(clone(x), y).mean(), clone.module, fast, create_graph=not first_order)
                algorithms.maml.maml_update(clone.module, lr, gradients)
        yield _stacked(clones)


def _gradients(loss: Tensor, network: nn.Module, fast: Set[str], create_graph: bool) -> list[Tensor | None]:
    """As learn2learn's adapt computes them, for the parameters that move; None for the others."""
    parameters = dict(network.named_parameters())
    moved = [name for name in parameters if name in fast]
    gradients = torch.autograd.grad(loss, [parameters[name] for name in moved], create_graph=create_graph)
    of_name = dict(zip(moved, gradients, strict=True))
    return [of_name.get(name) for name in parameters]


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
