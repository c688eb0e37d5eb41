"""A learner's and its data's arguments as a checkpoint holds them: plain values, without the modules among them."""

import inspect
import warnings
from pathlib import PurePath
from typing import Any

import numpy as np
from torch import nn

# What Lightning recommends there would let a checkpoint build another network without a word.
warnings.filterwarnings("ignore", message=r".*Attribute '\w+' is an instance of `nn\.Module` and is already saved")

GIVEN_AS_MODULE = "given as a module: "  # begins what stands in a module's place


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


def check_given(name: str, value: Any) -> None:
    """Refuses what a checkpoint holds in a module's place, or another value that is no module.

    Args:
        name: The argument's.
        value: What a constructor was given.

    Raises:
        ValueError: If it is no module.
    """
    if isinstance(value, nn.Module):
        return
    if isinstance(value, str) and value.startswith(GIVEN_AS_MODULE):
        raise ValueError(
            f"the checkpoint's learner was given its {name} as a module ({value.removeprefix(GIVEN_AS_MODULE)}), of "
            f"which a checkpoint holds the weights alone: pass it again, as in load_from_checkpoint(path, {name}=...)."
        )
    hint = f": write {value.__name__}(...)" if isinstance(value, type) else ""
    raise ValueError(f"{name} must be a torch.nn.Module, got {value!r}{hint}.")
