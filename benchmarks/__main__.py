"""Measures Quickstudy beside other libraries: `python -m benchmarks`, or `make bench`."""

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from app.files.data_folder import data_folder
from app.process.allocator import keep_freed_memory
from app.process.errors import UsageError
from benchmarks import machine, measurements_file
from benchmarks.options import Options
from benchmarks.render import render

# Each section's part of the budget, among the sections of the device.
SECTIONS = {"outer_step": 58, "episodes": 7, "end_to_end": 15, "limit": 8, "growth": 12, "full_run": 60}
GPU_ONLY = ("full_run",)
SECONDS = 540.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs sections one after another; each leaves its rows in the machine's file when it is through."""
    chosen = parse(arguments)
    keep_freed_memory()  # as train.py does; all contestants of this process have it
    device = torch.device(chosen.device)
    path = measurements_file.RESULTS / f"{machine.machine_name(device)}.json"
    described, run = machine.describe(device), machine.describe_run(device)
    print(" ".join(f"{key}={value}" for key, value in (described | run).items() if value is not None), flush=True)
    for name in chosen.sections or sections_of(device.type):
        seconds = share(name, device.type) * chosen.budget
        print(f"\n== {name}: about {seconds:.0f} s", flush=True)
        start = time.perf_counter()
        try:
            rows = importlib.import_module(f"benchmarks.{name}").run(Options(device, seconds, chosen.data))
        except (ValueError, OSError) as error:  # of data that is not there, or broken
            sys.exit(f"error: {error}")
        took = time.perf_counter() - start
        print(f"== {name}: {took:.0f} s", flush=True)
        if rows:
            measurements_file.merge(path, described, run | {"budget": seconds, "took": round(took, 1)}, name, rows)
    written = render(measurements_file.RESULTS)
    print("\n" + "\n".join(f"written: {file}" for file in [path, *written] if file.exists()))


def sections_of(device: str) -> list[str]:
    """Returns what is measured on a "cpu" or "cuda" device where nothing is asked for."""
    return [name for name in SECTIONS if device == "cuda" or name not in GPU_ONLY]


def share(section: str, device: str) -> float:
    """A section's share of the budget."""
    return SECTIONS[section] / sum(SECTIONS[name] for name in {section, *sections_of(device)})


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"any of {', '.join(SECTIONS)}; none: all")
    parser.add_argument(
        "--budget", type=float, default=SECONDS, help="seconds for all sections together, of which each takes its share"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", type=Path, help="folder that holds omniglot/; default: QUICKSTUDY_DATA, or data/")
    chosen = parser.parse_args(arguments)
    try:
        chosen.data = chosen.data or data_folder()
    except UsageError as error:
        parser.error(str(error))
    if unknown := [name for name in chosen.sections if name not in SECTIONS]:
        parser.error(f"no section {', '.join(unknown)}: choose from {', '.join(SECTIONS)}")
    if chosen.budget <= 0:
        parser.error(f"--budget must be positive, got {chosen.budget:g}")
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here")
    return chosen


if __name__ == "__main__":
    main()
