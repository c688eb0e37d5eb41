"""What one test found, as a cell's file keeps it, and how it stands beside the paper."""

import datetime
import json
import re
import shlex
from pathlib import Path
from typing import Any, Literal

from app.runs.folder import RunFolder
from reproduction.cells import Cell, Kind, Published
from reproduction.training import Training, configuration_hash, iterations_of

Result = dict[str, Any]
Verdict = Literal["inside", "above", "below"]
SCORES = ("accuracy", "ci95")
KINDS: tuple[Kind, ...] = ("transductive", "inductive")


def make_result(cell: Cell, training: Training, trained_in: RunFolder, tested_in: RunFolder) -> Result:
    """The record of a cell.

    Args:
        cell: What was reproduced.
        training: What was trained.
        trained_in: The training's run.
        tested_in: The test's; the same one where the cell has no test of its own.
    """
    trained, tested = (json.loads((run.path / "results.json").read_text("utf-8")) for run in (trained_in, tested_in))
    configured = [trained_in] if trained_in == tested_in else [trained_in, tested_in]
    scores = {name: tested[name] for name in SCORES}
    scores |= {f"{n}_{kind}": tested[f"{n}_{kind}"] for kind in KINDS for n in SCORES if f"{n}_{kind}" in tested}
    versions = dict(trained["versions"])
    return {
        "seed": training.seed,
        **scores,
        "transductive": bool(tested["protocol"]["transductive"]),
        "n_tasks": tested["n_tasks"],
        "iterations": trained["global_step"],
        "iterations_asked": training.length,
        "iterations_of_protocol": iterations_of(training.config),
        "tested_iteration": _step_of(tested["checkpoint"], trained["global_step"]),
        "wall_time": trained["wall_time"],
        "tasks_per_second": trained["tasks_per_second"],
        "device": trained["device"],
        "precision": trained["precision"],
        "commit": versions.pop("quickstudy"),
        "trained_by": trained["trained_by"],
        "versions": versions,
        "configuration": configuration_hash(*configured),
        "protocol": tested["protocol"],
        "command": reproduce_command(cell, training),
        "train_command": shown(training.fit(None, resume=False)),
        "test_command": None if cell.test_options is None else shown(training.test(cell, None, None)),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def reproduce_command(cell: Cell, training: Training) -> str:
    """What makes the result again."""
    length = "" if training.iterations is None else f" ITERATIONS={training.iterations}"
    return f"make reproduce CELL={cell.name} SEED={training.seed}{length}"


def shown(arguments: list[str]) -> str:
    """A command of train.py as a reader types it, from whichever folder has the data."""
    return shlex.join(["python", "train.py", *arguments])


def score_of(result: Result, kind: Kind) -> tuple[float, float] | None:
    """Accuracy and half-width in %, of a kind of evaluation; None where the result has none of it."""
    if f"accuracy_{kind}" in result:
        return 100 * result[f"accuracy_{kind}"], 100 * result[f"ci95_{kind}"]
    if result["transductive"] == (kind == "transductive"):
        return 100 * result["accuracy"], 100 * result["ci95"]
    return None


def verdict(ours: tuple[float, float], paper: Published) -> Verdict:
    """Whether our accuracy lies in the paper's interval; in our own around the paper's where the paper gives none.

    Args:
        ours: Accuracy and half-width, in %.
        paper: The paper's figure.
    """
    difference = ours[0] - paper.accuracy
    half_width = ours[1] if paper.ci95 is None else paper.ci95
    if abs(difference) <= half_width + 1e-9:
        return "inside"
    return "above" if difference > 0 else "below"


def is_whole(result: Result) -> bool:
    """Whether it was trained as long as its protocol has it, or until that stops by itself."""
    return bool(result["iterations_asked"] >= result["iterations_of_protocol"])


def percent(value: float, ci95: float | None) -> str:
    """For example "98.70 +- 0.40"."""
    return f"{value:.2f}" + ("" if ci95 is None else f" +- {ci95:.2f}")


def _step_of(checkpoint: str | None, last: int) -> int:
    match = re.search(r"best-step=(\d+)\.ckpt$", Path(checkpoint or "").name)
    return int(match[1]) if match else last
