"""One network with one set of weights applied to many tasks at once, where each task's batch has its own statistics."""

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from modules.functional.tasks.networks import Variables, call_with
from modules.functional.tasks.probe import agree

TOLERANCE = 1e-3  # of float32 round-off, which a normalisation over few examples makes larger


def forward_shared(network: nn.Module, variables: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Applies a network with the same variables to the examples of T tasks, batch statistics per task. Traceable.

    Args:
        network: Gives the structure and the training flag.
        variables: Every parameter and buffer by name, each (*shape), or one (*shape) repeated to (T, *shape).
        x: (T, B, *input_shape).

    Returns:
        (T, B, *output_shape).
    """
    own = dict(network.named_parameters()) | dict(network.named_buffers())
    given: Variables = {name: v[0] if v.dim() > own[name].dim() else v for name, v in variables.items()}
    with _StatisticsOfTasks(x.shape[1]):
        outputs = call_with(network, given, x.flatten(0, 1))
    return outputs.unflatten(0, (-1, x.shape[1]))  # (T, B, *output_shape)


_ANSWERS: WeakKeyDictionary[nn.Module, dict[torch.Size, bool]] = WeakKeyDictionary()


def can_share_a_batch(network: nn.Module, input_shape: torch.Size) -> bool:
    """Whether `forward_shared` computes what the network does to each task alone, found out once on random examples.

    Args:
        network: On any device, in evaluation mode; stays as it is.
        input_shape: Of one example.
    """
    answers = _ANSWERS.setdefault(network, {})
    if input_shape not in answers:
        answers[input_shape] = _probe(network, input_shape)
    return answers[input_shape]


def _probe(network: nn.Module, input_shape: torch.Size) -> bool:
    examples = torch.rand(2, 3, *input_shape, generator=torch.Generator().manual_seed(0))
    examples[1] *= 0.5

    def compute(stand_in: nn.Module, variables: Variables, x: Tensor) -> tuple[Tensor, Tensor]:
        alone = torch.stack([call_with(stand_in, variables, task_x) for task_x in x])
        return alone, forward_shared(stand_in, variables, x)

    return agree(network, examples, compute, TOLERANCE)


class _StatisticsOfTasks(TorchFunctionMode):
    """Inside it, batch normalisation by the batch's statistics takes those of each `n_examples` examples.

    Args:
        n_examples: B, examples of a task.
    """

    def __init__(self, n_examples: int) -> None:
        super().__init__()
        self.n_examples = n_examples

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replaces one function; all others treat each example for itself or are found out by `can_share_a_batch`."""
        if function is functional.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """As `torch.nn.functional.batch_norm`: x (T * B, C, ...), weight (C,), bias (C,)."""
        if not training:
            return functional.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        values = values.flatten(2) if x.dim() > 2 else values.unsqueeze(-1)  # (T * B, C, N)
        tasks = values.unflatten(0, (-1, self.n_examples))  # (T, B, C, N)
        # One axis after the other: several that are not neighbours take three times as long.
        centred = tasks - tasks.mean(3, keepdim=True).mean(1, keepdim=True)
        scale = (centred.square().mean(3, keepdim=True).mean(1, keepdim=True) + eps).rsqrt()  # (T, 1, C, 1)
        if weight is not None:
            scale = scale * weight.unsqueeze(-1)
        normalised = centred * scale if bias is None else torch.addcmul(bias.unsqueeze(-1).to(scale), centred, scale)
        return normalised.to(x.dtype).view_as(x)
