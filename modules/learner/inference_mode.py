"""Evaluation that adapts by gradients, also inside `torch.inference_mode`, in which autograd records nothing."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def outside_inference_mode(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Makes a function compute as under `torch.no_grad` where it is called inside `torch.inference_mode`.

    An inner loop switches gradients on for itself, which has no effect in inference mode: `torch.autograd.grad` fails
    there, and `torch.func.grad` returns zeros without a word. Inference tensors among the arguments are replaced by
    copies, because autograd cannot save them.

    Args:
        function: A step of evaluation; it needs no gradients but those that it switches on itself.
    """

    @wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with torch.inference_mode(False), torch.no_grad():
            given, named = ordinary((args, kwargs))
            return function(*given, **named)

    return run


def ordinary(values: Any) -> Any:
    """A tuple, dict or other tree of values in which every inference tensor has become a copy that autograd takes."""
    return tree_map_only(Tensor, lambda value: value.clone() if value.is_inference() else value, values)
