"""Parameters of which each of T tasks has its own, standing in for shared ones inside an ordinary network's forward."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from modules.functional.tasks.batch_norm import task_batch_norm
from modules.functional.tasks.convolution import task_conv2d


class PerTask(Tensor):
    """A parameter or buffer (T, *shape) that a network takes for one of (*shape), given a batch of T * B examples.

    What a network does to each example for itself (activations, pooling, reshaping, residual sums) needs no knowledge
    of tasks. Operations with weights do, and they meet one of these: those in `BATCHED_OPERATIONS` are computed for all
    tasks at once, any other is refused. What looks across its batch without weights meets none; `batches_tasks` finds
    it out.
    """

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Computes what a network asks of its weights for all tasks at once."""
        with torch._C.DisableTorchFunctionSubclass():
            if function in _FACTS:
                return function(*args)
            form = BATCHED_OPERATIONS.get(function)
            if form is None:
                raise NotImplementedError(f"{function.__name__} on weights that differ from task to task")
            plain = [value.as_subclass(Tensor) if isinstance(value, cls) else value for value in args]
            named = {n: v.as_subclass(Tensor) if isinstance(v, cls) else v for n, v in (kwargs or {}).items()}
            return form(*plain, **named)


def task_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Each task's own linear layer: x (T * B, D), weight (T, O, D), bias (T, O) -> (T * B, O)."""
    rows = x.unflatten(0, (len(weight), -1))  # (T, B, D)
    matrix = weight.transpose(1, 2)  # (T, D, O)
    outputs = torch.bmm(rows, matrix) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, matrix)
    return outputs.flatten(0, 1)  # (T * B, O)


# What may be asked of a weight without computing with it. Not its shape, which no network expects to begin with T.
_FACTS = {getattr(Tensor, name).__get__ for name in ("dtype", "device", "layout", "requires_grad", "is_cuda", "is_cpu")}

BATCHED_OPERATIONS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    torch.conv2d: task_conv2d,
    functional.linear: task_linear,
    functional.batch_norm: task_batch_norm,
}


def layer_not_batched(network: nn.Module) -> str | None:
    """The first layer whose weights have no form for T tasks at once, as "name (description)"; None: all have one.

    Args:
        network: Any network; a layer with parameters of its own that is not one of PyTorch's counts as having none.
    """
    for name, layer in network.named_modules():
        if not _is_batched(layer):
            return f"{name or 'the network'} ({type(layer).__name__})"
    return None


def _is_batched(layer: nn.Module) -> bool:
    match layer:
        case nn.Conv2d():
            plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
            return plain and layer.dilation == (1, 1) and layer.groups == 1
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return layer.momentum is not None and (layer.affine or layer.track_running_stats)
        case nn.modules.batchnorm._BatchNorm() | nn.InstanceNorm2d():
            return False
        case nn.Linear():
            return True
    return not any(True for _ in [*layer.parameters(recurse=False), *layer.buffers(recurse=False)])
