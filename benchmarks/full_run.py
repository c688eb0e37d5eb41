"""MAML's whole Omniglot run, 60,000 outer steps with validations and test, by the shipped configuration; on a GPU."""

import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.machine import ROOT
from benchmarks.omniglot_images import omniglot
from benchmarks.options import Options
from benchmarks.table import Row, Table

CONFIG = "configs/maml_omniglot_5w1s.yaml"
COLUMNS = {
    "run": 22,
    "steps": 8,
    "seconds": 8,
    "train_seconds": 13,
    "tasks_per_second": 16,
    "gpu_busy": 8,
    "accuracy": 8,
}


def run(options: Options) -> list[Row]:
    """One row: the run as a recorded CUDA graph; stopped where it takes longer than the section may."""
    if options.device.type != "cuda":
        print("full_run: takes a day on a CPU; it is measured on a GPU only")
        return []
    if options.data is None:
        print("full_run: no images; name the folder that holds omniglot/ with --data or QUICKSTUDY_DATA")
        return []
    omniglot(options.data)  # fills the image cache
    row: Row = {"run": Path(CONFIG).stem, "cuda_graph": True}
    changes: dict[str, object] = {"model.outer.cuda_graph": "true", "trainer.accelerator": "gpu"}
    row |= measure(options.data.absolute(), options.seconds, changes)
    Table(COLUMNS).add(row)
    return [row]


def measure(data: Path, seconds: float, changes: dict[str, object]) -> Row:
    """Runs `fit` in a process of its own and reads its results; one that takes longer is stopped, and the row says so.

    Args:
        data: Folder that holds omniglot/.
        seconds: What the run may take.
        changes: Options beside the configuration's.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = {"trainer.default_root_dir": folder, "data.root": data, "data.download": "false"} | changes
        command = [sys.executable, "train.py", "fit", "--config", CONFIG, "--config", "configs/wandb_off.yaml"]
        command += [text for name, value in given.items() for text in (f"--{name}", str(value))]
        start, printed = time.perf_counter(), Path(folder) / "printed.txt"
        with printed.open("w") as file, gpu_samples() as samples:
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        took = time.perf_counter() - start
        lines = printed.read_text("utf-8").splitlines()
        row: Row = {"seconds": took, "gpu_busy": statistics.mean(samples) / 100 if samples else None}
        if process.returncode:
            reached = [line for line in lines if re.match(r"step [\d,]+", line)] or lines or ["no word"]
            return row | {"note": f"not finished: {reached[-1][:100]}"}
        results = json.loads(next(Path(folder).rglob("results.json")).read_text("utf-8"))
        figures = {name: results[name] for name in ("tasks_per_second", "accuracy", "ci95")}
        return row | figures | {"steps": int(results["global_step"]), "train_seconds": results["wall_time"]}


@contextlib.contextmanager
def gpu_samples() -> Iterator[list[float]]:
    """The percentages of time in which the first GPU computed, twice a second, to be read afterwards; none without."""
    samples: list[float] = []
    if shutil.which("nvidia-smi") is None or not torch.cuda.is_available():
        yield samples
        return
    command = ["nvidia-smi", f"--id=GPU-{torch.cuda.get_device_properties(0).uuid}"]
    command += ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=500"]
    sampler = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield samples
    finally:
        sampler.terminate()
        printed, _ = sampler.communicate()
        samples += [float(line) for line in printed.splitlines() if line.strip().isdigit()]
