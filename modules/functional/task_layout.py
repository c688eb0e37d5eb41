"""The way of computing many tasks that suits network, tasks and device; benchmarks/README.md has the measurements."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from modules.functional.networks import Strategy
from modules.functional.per_task import layer_without_task_form

# On a CPU the feature maps computed at once hold about so many numbers, those of 640 Omniglot images in a strided
# Conv4: with fewer, small operations cost more than their arithmetic; with more, each of them waits for memory.
CPU_FEATURES = 11_000_000


class TaskLayout(NamedTuple):
    """How the tasks of a batch are computed."""

    strategy: Strategy
    chunk: int  # tasks at once


def choose_layout(network: nn.Module, support_x: Tensor, query_x: Tensor, chunk: int | None = None) -> TaskLayout:
    """Chooses the fastest way of computing tasks like these.

    Args:
        network: Takes single examples of a task, in a batch.
        support_x: (T, S, *input_shape).
        query_x: (T, Q, *input_shape).
        chunk: Tasks at once, where that is asked for.

    Returns:
        All tasks at once on a GPU, even chunks of them on a CPU. One task alone is plainest one by one; several go
        through the hand-written forms where the network's layers have them.
    """
    n_tasks, examples = len(support_x), support_x.shape[1] + query_x.shape[1]
    if chunk is None:
        chunk = n_tasks
        if support_x.device.type == "cpu":
            at_once = max(1, CPU_FEATURES // (examples * count_features(network, support_x.shape[2:])))
            n_chunks = -(-n_tasks // at_once)
            chunk = -(-n_tasks // n_chunks)
    if min(chunk, n_tasks) == 1:
        return TaskLayout("loop", chunk)
    return TaskLayout("batched" if layer_without_task_form(network) is None else "vmap", chunk)


def count_features(network: nn.Module, input_shape: torch.Size) -> int:
    """The numbers that convolutions and linear layers put out for one example; nothing is computed for it.

    Args:
        network: On any device; stays as it is.
        input_shape: Of one example.
    """
    counts: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(output[0].numel())

    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        shapes = dict(network.named_parameters()) | dict(network.named_buffers())
        on_meta = {name: torch.empty_like(value, device="meta") for name, value in shapes.items()}
        dtype = next((value.dtype for value in on_meta.values() if value.is_floating_point()), torch.float32)
        with torch.no_grad():
            functional_call(network, on_meta, (torch.empty(2, *input_shape, dtype=dtype, device="meta"),))
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, sum(counts))
