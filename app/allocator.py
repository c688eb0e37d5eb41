"""The C library's memory allocator, set for a program that allocates the same large tensors at every step."""

import ctypes

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2  # mallopt(3)
_NEVER = 2**31 - 1
_PAD = 64 * 2**20


def keep_freed_memory() -> bool:
    """Keeps freed memory for the next tensor instead of giving it back to the system.

    By default glibc maps every large tensor anew, and the first touch of each of its pages is a fault: with 32 tasks at
    once that was a third of MAML's step on two cores. The process stays as large as it ever was.

    Returns:
        Whether it could be set: only glibc has these settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(_MMAP_THRESHOLD, _NEVER), mallopt(_TRIM_THRESHOLD, _NEVER), mallopt(_TOP_PAD, _PAD)])
