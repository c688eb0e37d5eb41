"""The passes through networks that a learner's adaptation and prediction take, found by computing one task."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from modules.functional.tasks.layout import batches_tasks
from modules.functional.tasks.shared_weights import can_share_a_batch


class Pass(NamedTuple):
    """A network and the shape of the examples that it was applied to."""

    network: nn.Module
    input_shape: torch.Size


class Passes:
    """What a computation passes through the networks of a learner.

    Attributes:
        features: The numbers that convolutions and linear layers have put out: what the computation costs.
        networks: The networks and the shapes of their examples, each once.
        sets_of_weights: The most tasks that a network was applied to at once: more than there are where a method
            computes several sets of weights for each.
    """

    def __init__(self) -> None:
        self.features = 0
        self.networks: list[Pass] = []
        self.sets_of_weights = 1

    def add(self, network: nn.Module, x: Tensor) -> None:
        """Adds an application of a network to x (T, B, *input_shape)."""
        shape = x.shape[2:]
        if not any(known is network and known_shape == shape for known, known_shape in self.networks):
            self.networks.append(Pass(network, shape))
        self.sets_of_weights = max(self.sets_of_weights, len(x))

    def batch_tasks(self) -> bool:
        """Tells whether every network computes many tasks at once as it does one by one."""
        return all(batches_tasks(network, shape) for network, shape in self.networks)

    def can_share_a_batch(self) -> bool:
        """Tells whether every network computes many small batches as one, each with statistics of its own."""
        return all(can_share_a_batch(network, shape) for network, shape in self.networks)

    @contextmanager
    def counting(self, learner: nn.Module) -> Iterator[None]:
        """Inside it, what the layers of a learner put out is counted; nothing is drawn from torch's generators."""
        layers = {layer for layer in learner.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))}

        def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            if layer in layers:  # a network's copy has its hooks too: one on which something is tried is no pass
                self.features += output.numel()

        hooks = [layer.register_forward_hook(count) for layer in layers]
        gpus = {value.device for value in learner.parameters() if value.device.type == "cuda"}
        try:
            with torch.random.fork_rng(list(gpus)):
                yield
        finally:
            for hook in hooks:
                hook.remove()
