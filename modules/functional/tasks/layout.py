"""The way of computing many tasks that suits network, tasks and device; benchmarks/README.md has the measurements."""

import torch
from torch import Tensor, nn

from modules.functional.tasks.networks import Strategy, Variables, forward_tasks
from modules.functional.tasks.per_task import layer_not_batched
from modules.functional.tasks.probe import agree

# On a CPU the feature maps computed at once hold about so many numbers, those of 640 Omniglot images in a strided
# Conv4: with fewer, small operations cost more than their arithmetic; with more, each of them waits for memory.
CPU_FEATURES = 11_000_000
TOLERANCE = 1e-3  # of float32 round-off, which a normalisation over three examples makes larger
WAYS: tuple[Strategy, Strategy] = ("loop", "batched")


def choose_chunk(n_tasks: int, features: int, device_type: str) -> int:
    """Chooses how many tasks are computed at once: all of them on a GPU, even chunks of them on a CPU.

    Args:
        n_tasks: T.
        features: The numbers that convolutions and linear layers put out for one task; 0: unknown.
        device_type: "cpu" or "cuda".
    """
    if device_type != "cpu" or features == 0:
        return n_tasks
    at_once = max(1, CPU_FEATURES // features)
    n_chunks = -(-n_tasks // at_once)
    return -(-n_tasks // n_chunks)


def batches_tasks(network: nn.Module, input_shape: torch.Size) -> bool:
    """Tells whether "batched" computes what a loop over the tasks does, found out on a few random examples.

    The layers with weights can be told by their types, but not whether a network of a user's own looks across its
    batch, as in `x - x.mean(0)`: there the tasks would see each other.

    Args:
        network: On any device; stays as it is.
        input_shape: Of one example.
    """
    if layer_not_batched(network) is not None:
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
