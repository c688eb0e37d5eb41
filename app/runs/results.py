"""results.json and the line that ends a run: the score with all that it depends on."""

import functools
import json
import math
import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from app.files.atomic_file import write_atomically
from app.runs.score_text import score_text
from datamodules.objective import CLASSIFICATION, OBJECTIVES, Objective
from datamodules.tasks.sampling import DRAWS
from modules.learner.scores import MeanScore


@dataclass
class RunFacts:
    """What a result states beside its scores.

    Args:
        seed: The training seed.
        checkpoint: The checkpoint that was evaluated, as a path; None: the current weights.
        command: The command line.
        device: The device's name.
        precision: The Trainer's precision.
        matmul_precision: That of products and convolutions of float32.
        train_seconds: Training time without validations, in s.
        tasks_per_second: Mean training throughput.
        global_step: Outer steps of training.
        objective: What the data ask, e.g. "classification".
        draws: The number of the drawing that the evaluated tasks come from.
        trained_by: "commit", "torch" and "device" of the training, of each part that had others.
    """

    seed: int
    checkpoint: str | None
    command: str
    device: str
    precision: str
    train_seconds: float
    tasks_per_second: float
    global_step: int
    objective: str = CLASSIFICATION.name
    draws: int = DRAWS
    matmul_precision: str = "highest"
    trained_by: list[dict[str, str | None]] = field(default_factory=list)


def collect_results(split: str, means: list[MeanScore], protocol: dict[str, Any], facts: RunFacts) -> dict[str, Any]:
    """The content of results.json; an interval is None where there is none, as of one task.

    Args:
        split: "test" or "val".
        means: What was measured, of one task or more.
        protocol: The data's and the learner's protocols together.
        facts: What the result depends on.
    """
    main, scores, curve = OBJECTIVES[facts.objective].score_name, dict[str, float | None](), dict[str, float]()
    for score, value, ci95, _ in means:
        if score.after_step is not None:
            curve[str(score.after_step)] = value
            continue
        scores[score.label] = value
        if score.has_interval:
            scores[score.interval_label(main)] = ci95
    results: dict[str, Any] = {
        "split": split,
        "objective": facts.objective,
        **scores,
        "n_tasks": means[0].n_tasks,
        "draws": facts.draws,
        "protocol": protocol,
        "adaptation_curve": curve,
        "checkpoint": facts.checkpoint,
        "global_step": facts.global_step,
        "seed": facts.seed,
        "wall_time": round(facts.train_seconds, 2),
        "tasks_per_second": round(facts.tasks_per_second, 2),
        "device": facts.device,
        "precision": facts.precision,
        "matmul_precision": facts.matmul_precision,
        "versions": versions(),
        "trained_by": facts.trained_by,
        "command": facts.command,
    }
    return results


def readable(results: dict[str, Any]) -> str:
    """One line, e.g. `test accuracy 93.12% +- 0.41% (1,000 tasks, 5-way 1-shot, transductive)`.

    In regression e.g. `test mse 0.0123 +- 0.0010 (600 tasks, 10-shot regression)`.
    """
    objective, protocol = objective_of(results), results["protocol"]
    score = f"{results['split']} {objective.score_name} {with_interval(results, '')}"
    kinds = [kind for kind in ("transductive", "inductive") if f"{objective.score_name}_{kind}" in results]
    stated = [f"{results['n_tasks']:,} task{'' if results['n_tasks'] == 1 else 's'}"]
    if objective is CLASSIFICATION:
        stated += [f"{protocol['n_way']}-way {protocol['k_shot']}-shot"] if "n_way" in protocol else []
        stated += [f"trained {protocol['outputs']}-way"] if "outputs" in protocol else []
        kind = "transductive" if protocol.get("transductive") else "inductive"
        stated += [] if kinds else [kind]
    else:
        stated.append(f"{protocol['k_shot']}-shot {objective.name}" if "k_shot" in protocol else objective.name)
    leaks = f"; but {protocol['leaks']}" if protocol.get("leaks") else ""
    if not kinds:
        return f"{score} ({', '.join(stated)}){leaks}"
    headline, other = kinds if protocol.get("transductive") else reversed(kinds)
    return f"{score} ({', '.join([*stated, headline])}); {with_interval(results, '_' + other)} {other}{leaks}"


def objective_of(results: dict[str, Any]) -> Objective:
    """Returns what the data asked; results that do not say it are of classification."""
    return OBJECTIVES[results.get("objective", CLASSIFICATION.name)]


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Writes JSON whole or not at all; a number that is not finite, which JSON has not, as null."""
    write_atomically(path, json.dumps(_finite(results), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


# What a result depends on.
CODE = ("app", "configs", "datamodules", "modules", "reproduction", "requirements.txt", "train.py")


def versions() -> dict[str, str | None]:
    """Returns what the numbers were made with."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": pl.__version__,
        "quickstudy": commit(),
    }


def device_name(trainer: Any) -> str:
    """Returns what a Trainer computes on, e.g. "2 x NVIDIA H100" or "cpu"."""
    device = trainer.strategy.root_device
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{trainer.world_size} x {kind}" if trainer.world_size > 1 else kind


@functools.cache
def commit() -> str | None:
    """This repository's commit when first asked for, with `-dirty` where its code was changed.

    Without git, what QUICKSTUDY_COMMIT says; None where that is not set.
    """
    try:
        return _git("rev-parse", "HEAD") + ("-dirty" if _git("status", "--porcelain", "--", *CODE) else "")
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("QUICKSTUDY_COMMIT")


def _git(*arguments: str) -> str:
    root = Path(__file__).parents[2]
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def with_interval(results: dict[str, Any], suffix: str) -> str:
    """A score, e.g. "93.12% +- 0.41%", or "93.12%" where one task was scored; suffix "", "_transductive" or so."""
    objective = objective_of(results)
    score, half_width = results[objective.score_name + suffix], results.get("ci95" + suffix)
    interval = "" if half_width is None else f" +- {score_text(half_width, objective)}"
    return score_text(score, objective) + interval
