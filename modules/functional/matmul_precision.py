"""The precision of products of float32 matrices and of float32 convolutions: what it is, and how it is set."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch

MatmulPrecision = Literal["highest", "high", "medium"]

_ON_CPU = {"highest": "ieee", "high": "tf32", "medium": "bf16"}  # as PyTorch itself translates it for products
_USED: dict[str, tuple[tuple[str, str], ...]] = {
    "cuda": (("cuda", "matmul"), ("cudnn", "conv"), ("cudnn", "rnn")),
    "cpu": (("mkldnn", "matmul"), ("mkldnn", "conv")),
}


def set_matmul_precision(precision: MatmulPrecision) -> None:
    """Sets the precision of products and convolutions of this process alike.

    PyTorch's own default differs between the two: products of matrices are exact, and convolutions on a GPU are not.

    Args:
        precision: "highest": exact float32. "high": on a GPU in TF32, whose factors have 10 bits after the point; on a
            CPU in TF32 where it has that. "medium": on a GPU as "high"; on a CPU with bfloat16 factors.

    Raises:
        ValueError: If there is no such precision.
    """
    if precision not in get_args(MatmulPrecision):
        raise ValueError(f"matmul_precision must be one of {', '.join(get_args(MatmulPrecision))}, got {precision!r}.")
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    on_cpu = _settings("mkldnn", "conv")
    if on_cpu is not None:
        on_cpu.fp32_precision = _ON_CPU[precision]


def matmul_precision_on(device: str) -> str:
    """Returns the precision of a device type's products and convolutions of float32, as "tf32, tf32"; "ieee": exact."""
    used = [_settings(library, kind) for library, kind in _USED.get(device, ())]
    return ", ".join("ieee" if part.fp32_precision == "none" else part.fp32_precision for part in used if part)


@contextmanager
def exact_products() -> Iterator[None]:
    """Inside it products and convolutions of float32 are exact, whatever is set."""
    parts = [part for kinds in _USED.values() for kind in kinds if (part := _settings(*kind))]
    try:
        # PyTorch refuses to tell the older settings once a program has used the newer ones, and then only those serve.
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:
        before = None
    by_part = [part.fp32_precision for part in parts]
    if before is None:
        for part in parts:
            part.fp32_precision = "ieee"
    else:
        set_matmul_precision("highest")
    try:
        yield
    finally:
        if before is not None:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]
        for part, precision in zip(parts, by_part, strict=True):
            part.fp32_precision = precision


def _settings(library: str, kind: str) -> Any:
    """Of one kind of operation; None before PyTorch 2.9."""
    settings = getattr(getattr(torch.backends, library), kind, None)
    return settings if hasattr(settings, "fp32_precision") else None
