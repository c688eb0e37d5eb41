"""The C library's memory allocator, set for a program that allocates the same large tensors at every step."""

import ctypes
from typing import Any

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2  # mallopt(3)
_NEVER = 2**31 - 1
_PAD = 64 * 2**20
_ANY_THRESHOLD = (2, 35)  # the first glibc that takes every threshold of mapping
_LARGEST_BEFORE = 4 * 2**20 * ctypes.sizeof(ctypes.c_long)  # 32 MiB: half of an arena's heap


def keep_freed_memory() -> bool:
    """Keeps freed memory for the next tensor instead of giving it back to the system.

    By default glibc maps every large tensor anew, and the first touch of each of its pages is a fault: with 32 tasks at
    once that was a third of MAML's step on two cores. The process stays as large as it ever was.

    Before 2.35, as on RHEL 8 and 9 and Ubuntu 20.04, glibc refuses a threshold above 32 MiB. There the threshold is 32
    MiB, and only larger tensors are mapped anew. The other settings are made only after the threshold's: each of them
    stops the default threshold of 128 KiB from growing, so that without it almost every tensor would be mapped anew.

    Returns:
        Whether it could be set: only glibc has these settings.
    """
    try:
        library = ctypes.CDLL(None)
        mallopt, version = library.mallopt, _version(library)
    except (OSError, AttributeError, ValueError):
        return False
    threshold = _NEVER if version >= _ANY_THRESHOLD else _LARGEST_BEFORE
    if not mallopt(_MMAP_THRESHOLD, threshold):
        return False
    return all([mallopt(_TRIM_THRESHOLD, _NEVER), mallopt(_TOP_PAD, _PAD)])


def _version(library: Any) -> tuple[int, ...]:
    """That of glibc, as (2, 28).

    Raises:
        AttributeError: If it is another C library.
        ValueError: If it cannot be read.
    """
    function = library.gnu_get_libc_version
    function.restype = ctypes.c_char_p
    return tuple(int(part) for part in function().decode().split(".")[:2])
