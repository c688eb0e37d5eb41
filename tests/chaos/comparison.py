"""Whether two runs left the same: weights, optimiser, metrics and result, bit by bit."""

import csv
import json
from pathlib import Path
from typing import Any

import torch

# What equal runs need not share.
CLOCK = {"tasks_per_second", "wall_time", "command", "checkpoint", "device", "versions"}


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two run folders; empty where nothing does."""
    found = [
        f"{what} of last.ckpt"
        for what in ("state_dict", "optimizer_states", "lr_schedulers")
        if not _same(
            _checkpoint(one / "checkpoints" / "last.ckpt")[what], _checkpoint(other / "checkpoints" / "last.ckpt")[what]
        )
    ]
    best = [sorted(path.name for path in (run / "checkpoints").glob("best*.ckpt")) for run in (one, other)]
    if best[0] != best[1]:
        found.append(f"the best checkpoint: {best[0]}, {best[1]}")
    elif any(
        not _same(
            _checkpoint(one / "checkpoints" / n)["state_dict"], _checkpoint(other / "checkpoints" / n)["state_dict"]
        )
        for n in best[0]
    ):
        found.append("the weights of the best checkpoint")
    rows = _metrics(one), _metrics(other)
    if rows[0] != rows[1]:
        first = next((pair for pair in zip(*rows, strict=False) if pair[0] != pair[1]), None)
        found.append(f"metrics.csv: {len(rows[0])} and {len(rows[1])} rows; first difference: {first}")
    results = _result(one), _result(other)
    if results[0] != results[1]:
        parts = [{k: v for k, v in r.items() if v != o.get(k)} for r, o in (results, results[::-1])]
        found.append(f"results.json: {parts[0]} and {parts[1]}")
    return found


def _checkpoint(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [
            {k: v for k, v in sorted(row.items()) if k.rpartition("/")[2] not in CLOCK} for row in csv.DictReader(file)
        ]


def _result(run: Path) -> dict[str, Any]:
    result = json.loads((run / "results.json").read_text())
    return {key: value for key, value in result.items() if key not in CLOCK}
