"""Memory: what a call takes at most, and how many tasks fit."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

SHARE = 0.7  # of the free memory that a step may fill
STATUS, CLEAR, SYSTEM = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")


def peak_during(call: Callable[[], object], device: torch.device) -> int | None:
    """The most bytes that a call holds at once beyond those held before it; None where the system does not say.

    On a GPU these are torch's allocations. On a CPU it is what the process grows by, which misses what it reuses of
    memory freed before: exact only in a fresh process.
    """
    release(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        CLEAR.write_text("5")  # the kernel's word for: forget the peak so far
    except OSError:
        call()
        return None
    resident = _bytes(STATUS, "VmRSS")
    call()
    peak = _bytes(STATUS, "VmHWM")
    return None if peak is None or resident is None else max(0, peak - resident)


def fitting(bytes_per_task: float, n_tasks: int, device: torch.device) -> int | None:
    """Tells how many of T tasks may be computed at once on a CPU, a power of 2; None: all.

    A process that takes more is ended by the kernel. A GPU raises an error that can be caught, so None there.
    """
    free = _bytes(SYSTEM, "MemAvailable")
    if device.type == "cuda" or free is None or bytes_per_task * n_tasks <= free * SHARE:
        return None
    return 1 << max(0, int(free * SHARE / bytes_per_task).bit_length() - 1)


def release(device: torch.device) -> None:
    """Gives back what failed or finished calls left behind."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc keeps what is freed for itself
        libc.malloc_trim(0)


def _bytes(path: Path, entry: str) -> int | None:
    """What one of the kernel's lists says under a name, which it counts in KiB; None where there is no such list."""
    lines = path.read_text().splitlines() if path.exists() else []
    values = [int(line.split()[1]) * 1024 for line in lines if line.startswith(entry + ":")]
    return values[0] if values else None
