"""The way of computing many tasks that suits network, tasks and device; benchmarks/README.md has the measurements."""

import torch
from torch import Tensor, nn

from modules.functional.networks import Strategy, Variables, call_with, forward_tasks
from modules.functional.per_task import layer_without_task_form
from modules.functional.probe import agree

# On a CPU the feature maps computed at once hold about so many numbers, those of 640 Omniglot images in a strided
# Conv4: with fewer, small operations cost more than their arithmetic; with more, each of them waits for memory.
CPU_FEATURES = 11_000_000
TOLERANCE = 1e-3  # of float32 round-off, which a normalisation over three examples makes larger
WAYS: tuple[Strategy, Strategy] = ("loop", "batched")


def choose_chunk(network: nn.Module, support_x: Tensor, query_x: Tensor) -> int:
    """How many tasks like these are fastest computed at once: all of them on a GPU, even chunks of them on a CPU.

    Args:
        network: Takes single examples of a task, in a batch.
        support_x: (T, S, *input_shape).
        query_x: (T, Q, *input_shape).
    """
    n_tasks, examples = len(support_x), support_x.shape[1] + query_x.shape[1]
    features = count_features(network, support_x.shape[2:]) if support_x.device.type == "cpu" else None
    if features is None:
        return n_tasks
    at_once = max(1, CPU_FEATURES // (examples * features))
    n_chunks = -(-n_tasks // at_once)
    return -(-n_tasks // n_chunks)


def choose_strategy(network: nn.Module, n_tasks: int, input_shape: torch.Size) -> Strategy:
    """The fastest way of computing so many tasks at once.

    Args:
        network: Takes single examples of a task, in a batch.
        n_tasks: Tasks at once.
        input_shape: Of one example.

    Returns:
        One task alone is plainest one by one; several go through the hand-written forms where the network's layers have
        them.
    """
    if n_tasks == 1:
        return "loop"
    return "batched" if batches_tasks(network, input_shape) else "vmap"


def batches_tasks(network: nn.Module, input_shape: torch.Size) -> bool:
    """Whether "batched" computes what a loop over the tasks does, found out on a few random examples.

    The layers with weights can be told by their types, but not whether a network of a user's own looks across its
    batch, as in `x - x.mean(0)`: there the tasks would see each other.

    Args:
        network: On any device; stays as it is.
        input_shape: Of one example.
    """
    if layer_without_task_form(network) is not None:
        return False
    examples = torch.rand(2, 3, *input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def compute(stand_in: nn.Module, variables: Variables, x: Tensor) -> tuple[Tensor, Tensor]:
        own = _of_two_tasks(variables)
        # copies, whose statistics a training forward pass updates
        ways = ({name: value.clone() for name, value in own.items()} for _ in range(2))
        one_by_one, batched = (forward_tasks(stand_in, values, x, way) for values, way in zip(ways, WAYS, strict=True))
        return one_by_one, batched

    return agree(network, examples, compute, TOLERANCE)


def _of_two_tasks(variables: Variables) -> Variables:
    """For each of two tasks, random weights about the network's: (*shape) -> (2, *shape)."""
    generator = torch.Generator().manual_seed(1)
    own = {}
    for name, value in variables.items():
        own[name] = value.expand(2, *value.shape).clone()
        if value.is_floating_point():
            noise = torch.rand(own[name].shape, dtype=value.dtype, generator=generator)  # positive: variances stay so
            own[name] += noise.to(value.device) * (0.3 * value.abs().mean() + 0.1)
    return own


def count_features(network: nn.Module, input_shape: torch.Size) -> int | None:
    """The numbers that convolutions and linear layers put out for one example; nothing is computed for it.

    None where that cannot be told without computing, e.g. of a network that looks at its values.

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
            call_with(network, on_meta, torch.empty(2, *input_shape, dtype=dtype, device="meta"))
    except Exception:  # a network may do anything that the meta device cannot
        return None
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, sum(counts))
