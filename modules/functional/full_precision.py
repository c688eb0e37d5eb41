"""Arithmetic that mixed precision leaves alone."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def in_full_precision(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Makes a function compute in float32 or better, whatever precision its tensors come in, inside autocast too.

    Args:
        function: Of tensors and other things; all tensors on one device. Floating-point ones in less than float32 are
            converted, integers and float64 stay.

    Returns:
        The function.
    """

    @wraps(function)
    def computed(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        raised: Any = [_at_least_float32(value) for value in arguments]
        raised_named: Any = {name: _at_least_float32(value) for name, value in named.items()}
        device = next(value.device.type for value in (*raised, *raised_named.values()) if isinstance(value, Tensor))
        if not torch.is_autocast_enabled(device):
            return function(*raised, **raised_named)
        with torch.autocast(device, enabled=False):
            return function(*raised, **raised_named)

    return computed


def _at_least_float32(value: object) -> object:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return value.to(torch.promote_types(value.dtype, torch.float32))
