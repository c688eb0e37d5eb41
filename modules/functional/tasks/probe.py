"""Tries on a few numbers whether two ways of computing a network are the same: what decides how tasks are computed."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from modules.functional.matmul_precision import exact_products

Variables = dict[str, Tensor]  # a network's parameters and buffers by name
ROUND_OFF = 1e-6  # of float64, relative to the largest output; a normalisation over few examples makes it larger


@contextmanager
def nothing_dropped(network: nn.Module) -> Iterator[None]:
    """Switches dropout off, which draws for each example and so hides what a network computes."""
    dropping = [layer for layer in network.modules() if isinstance(layer, _DropoutNd) and layer.training]
    for layer in dropping:
        layer.training = False
    try:
        yield
    finally:
        for layer in dropping:
            layer.training = True


def agree(
    network: nn.Module,
    examples: Tensor,
    compute: Callable[[nn.Module, Variables, Tensor], tuple[Tensor, Tensor]],
    float32_tolerance: float,
) -> bool:
    """Tells whether two ways of computing a network give the same outputs.

    They are tried in float64. There no way can fail by round-off, as it would in float32, and even more where a GPU
    multiplies in TF32. A network that cannot be computed in float64 is tried in exact float32. Nothing that is tried
    changes the network or draws from torch's generators.

    Args:
        network: On any device, in any precision.
        examples: (..., *input_shape), float.
        compute: From a stand-in for the network, its parameters and buffers, and the examples, all in the precision
            that is tried, to the outputs of both ways, (...).
        float32_tolerance: The difference that round-off makes in float32, relative to the largest output.

    Returns:
        False also where a way fails.
    """
    values = dict(network.named_parameters()) | dict(network.named_buffers())
    device = next((value.device for value in values.values()), torch.device("cpu"))
    for dtype in (torch.float64, torch.float32):
        with (
            suppress(Exception),  # whatever a network makes of a precision or a use that it was not written for
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
            exact_products(),
        ):
            stand_in = _stand_in(network)
            variables = {name: _cast(value, dtype) for name, value in values.items()}
            with nothing_dropped(stand_in):
                one, other = compute(stand_in, variables, examples.to(device, dtype))
            tolerance = ROUND_OFF if one.dtype is torch.float64 else float32_tolerance
            atol = tolerance * float(one.abs().max())
            return one.shape == other.shape and torch.allclose(one, other, rtol=tolerance, atol=atol)
    return False


def _stand_in(network: nn.Module) -> nn.Module:
    """A copy, because a network may keep what it computes; the network itself where it cannot be copied."""
    try:
        return copy.deepcopy(network)
    except Exception:  # e.g. a weight that a hook computes
        return network


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy, in a precision where it is a floating-point one."""
    return value.detach().to(dtype if value.is_floating_point() else value.dtype, copy=True)
