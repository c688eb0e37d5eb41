"""What ran a benchmark: the machine, its software and the state of the code."""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

from benchmarks.table import Row

PACKAGES = ("torch", "pytorch-lightning", "learn2learn", "parallel-metalearn", "easyfsl", "numpy")
ROOT = Path(__file__).resolve().parents[1]


def machine_name(device: torch.device) -> str:
    """The machine in a file's name: `nvidia-h200`, or with its cores `cpu-2-amd-epyc`."""
    if device.type == "cuda":
        return slug(torch.cuda.get_device_name(device))
    return f"cpu-{cores()}-{slug(processor())}"


def describe(device: torch.device) -> Row:
    """The machine's parts: what stays the same from run to run."""
    row: Row = {"name": machine_name(device), "device": device.type, "processor": processor(), "cores": cores()}
    row["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        row |= {"gpu": properties.name, "gpu_memory_gib": round(properties.total_memory / 2**30, 1)}
    return row


def describe_run(device: torch.device) -> Row:
    """The software that ran, the commit and the date."""
    row: Row = {"date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"), "commit": commit()}
    row |= {"python": platform.python_version(), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        row |= {"cuda": torch.version.cuda, "cudnn_tf32": torch.backends.cudnn.allow_tf32}
    return row | {name.replace("-", "_"): version(name) for name in PACKAGES}


def slug(name: str) -> str:
    """A name of lower-case words joined by hyphens, without what a processor's maker adds to it."""
    name = re.sub(r"\((r|tm)\)|@.*|\b\d+-core\b|\bprocessor\b|\bcpu\b", " ", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: *(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def version(package: str) -> str | None:
    """A package's version; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The code's commit, with "+" where files differ from it; None outside a repository."""
    try:
        head = _git("rev-parse", "--short=10", "HEAD")
        # Results and their rendering change while a benchmark runs.
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/*.md", ":!*.json")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
