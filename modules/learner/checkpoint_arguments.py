"""A learner's and its data's arguments as a checkpoint holds them: plain values, without the modules among them."""

import inspect
import warnings
from pathlib import PurePath
from typing import Any

import numpy as np
from torch import nn

from modules.backbones.wrapped_module import GIVEN_AS_MODULE

# What Lightning recommends there would let a checkpoint build another network without a word.
warnings.filterwarnings("ignore", message=r".*Attribute '\w+' is an instance of `nn\.Module` and is already saved")


def plain_arguments(arguments: dict[str, Any], kind: type) -> dict[str, Any]:
    """Returns arguments in types that `weights_only=True` reads.

    Paths become text, numbers of NumPy those of Python, and modules their names.

    Args:
        arguments: By name, as `save_hyperparameters` has kept them.
        kind: The class whose arguments they are. Its `backbone` counts as a module where it was not kept.
    """
    plain = {name: _plain(value) for name, value in arguments.items()}
    if "_class_path" not in arguments and "backbone" in inspect.signature(kind).parameters:
        plain.setdefault("backbone", GIVEN_AS_MODULE + "backbone")
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return GIVEN_AS_MODULE + type(value).__name__
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value] if isinstance(value, list) else tuple(_plain(item) for item in value)
    return value
