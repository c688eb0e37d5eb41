"""What one test found, as an experiment's file keeps it, and how it stands beside the paper."""

import csv
import datetime
import json
import re
import shlex
from pathlib import Path
from typing import Any, Literal

import yaml

from app.checkpoints.what_is_trained import what_is_trained
from app.runs.folder import LAST, RunFolder
from reproduction.experiments import Experiment, Kind, Published
from reproduction.shipped import digits_of, iterations_of, shipped_hash
from reproduction.training import Training, what_tests

Result = dict[str, Any]
Score = tuple[float, float | None]  # accuracy and the half-width of its 95% interval in %; None: of one task
Verdict = Literal["inside", "above", "below"]
SCORES = ("accuracy", "ci95")
KINDS: tuple[Kind, ...] = ("transductive", "inductive")
NEUTRAL = ("matmul_precision", "highest")  # a default that a configuration may leave out
# What is shown of a run, and the seed, which a result states beside its configuration.
NOT_THE_PROTOCOL = ("seed_everything", "episode_picture", "answers", "verbose")


def make_result(
    experiment: Experiment, training: Training, trained_in: RunFolder, tested_in: RunFolder, jobs: int
) -> Result:
    """The record of an experiment.

    Args:
        experiment: What was reproduced.
        training: What was trained.
        trained_in: The training's run.
        tested_in: The test's; the same one where the experiment has no test of its own.
        jobs: Trainings at once, which share the machine.

    Raises:
        ValueError: If the run is of another seed, or its training is not at its end.
    """
    trained, tested = results_of(trained_in), results_of(tested_in)
    if trained["seed"] != training.seed or trained["global_step"] > training.length:
        raise ValueError(f"{trained_in.path} is not the run of {training.title}: it is of seed {trained['seed']}.")
    versions = dict(tested["versions"])
    return {
        "seed": training.seed,
        **_scores(tested),
        "transductive": bool(tested["protocol"]["transductive"]),
        "n_tasks": tested["n_tasks"],
        "draws": drawing_of(tested),
        "iterations": trained["global_step"],
        "iterations_asked": training.length,
        "iterations_of_protocol": iterations_of(training.config),
        "tested_iteration": _step_of(_checkpoint_of(trained), trained["global_step"]),
        "validation": validations_of(trained_in),
        "wall_time": trained["wall_time"],
        "tasks_per_second": trained["tasks_per_second"],
        "jobs": jobs,
        "device": tested["device"],
        "precision": trained["precision"],
        "commit": versions.pop("quickstudy"),
        "versions": versions,
        "trained_by": trained["trained_by"],
        "configuration": configuration_hash(*dict.fromkeys([trained_in.config, tested_in.config])),
        "shipped_configuration": shipped_hash(experiment),
        "protocol": tested["protocol"],
        **_commands(experiment, training, _checkpoint_of(trained)),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def results_of(run: RunFolder) -> Result:
    """The content of a run's results.json."""
    return dict(json.loads((run.path / "results.json").read_text("utf-8")))


def validations_of(run: RunFolder) -> list[list[float]]:
    """Outer steps and the accuracy that was validated after them, from a run's metrics.csv."""
    with (run.path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["step"], row.get("val/accuracy")) for row in csv.DictReader(file)]
    return [[int(step), round(float(accuracy), 4)] for step, accuracy in rows if accuracy]


def configuration_hash(*files: Path) -> str:
    """Twelve digits that two results share if all that was set is the same: not the seed, nor where the data are.

    Args:
        files: The config.yaml of the training's run, and of the test's where it is another.
    """
    kept = []
    for file in files:
        config = what_is_trained(yaml.safe_load(file.read_text("utf-8")))
        (config.get("data") or {}).get("init_args", {}).pop("seed", None)
        shown = {name: value for name, value in config.items() if (name, value) != NEUTRAL}
        kept.append({name: value for name, value in shown.items() if name not in NOT_THE_PROTOCOL})
    return digits_of(kept)


def reproduce_command(experiment: Experiment, training: Training) -> str:
    """Returns what makes the result again."""
    length = "" if training.iterations is None else f" ITERATIONS={training.iterations}"
    return f"make reproduce EXPERIMENT={experiment.name} SEED={training.seed}{length}"


def shown(arguments: list[str]) -> str:
    """A command of train.py as a reader types it, where the data are in data/."""
    return shlex.join(["python", "train.py", *arguments])


def drawing_of(result: Result) -> int:
    """The number of the drawing that the test tasks come from; results that do not say it are of the first."""
    return int(result.get("draws", 1))


def own_score(result: Result, suffix: str = "") -> Score:
    """Accuracy and half-width in %, by the result's own evaluation, or with a suffix such as "_inductive"."""
    half_width = result[f"ci95{suffix}"]
    return 100 * result[f"accuracy{suffix}"], None if half_width is None else 100 * half_width


def score_of(result: Result, kind: Kind) -> Score | None:
    """Accuracy and half-width in %, of a kind of evaluation; None where the result has none of it."""
    if f"accuracy_{kind}" in result:
        return own_score(result, f"_{kind}")
    return own_score(result) if result["transductive"] == (kind == "transductive") else None


def verdict(ours: Score, paper: Published) -> Verdict:
    """Whether our accuracy lies in the paper's interval; in our own around the paper's where the paper gives none.

    Args:
        ours: Accuracy and half-width, in %.
        paper: The paper's figure.
    """
    difference = ours[0] - paper.accuracy
    half_width = ours[1] if paper.ci95 is None else paper.ci95
    if abs(difference) <= (half_width or 0.0) + 1e-9:
        return "inside"
    return "above" if difference > 0 else "below"


def is_whole(result: Result) -> bool:
    """Tells whether it was trained as long as its protocol has it, or until that stopped by itself."""
    return bool(result["iterations_asked"] >= result["iterations_of_protocol"] or stopped_by_itself(result))


def stopped_by_itself(result: Result) -> bool:
    """Tells whether the validation had got no better for a while before the steps that were asked for."""
    return bool(result["iterations"] < result["iterations_asked"])


def percent(value: float, ci95: float | None) -> str:
    """For example "98.70 +- 0.40"."""
    return f"{value:.2f}" + ("" if ci95 is None else f" +- {ci95:.2f}")


def _scores(tested: Result) -> Result:
    """Accuracy and interval, and those of both kinds of evaluation where they differ."""
    names = [*SCORES, *(f"{score}_{kind}" for kind in KINDS for score in SCORES)]
    return {name: tested[name] for name in names if name in tested}


def _commands(experiment: Experiment, training: Training, checkpoint: str) -> Result:
    """What makes the result again, and what of train.py that runs; test_command is None where the training tests."""
    own_test = None if experiment.test_options is None else what_tests(experiment, f"RUN/checkpoints/{checkpoint}")
    return {
        "command": reproduce_command(experiment, training),
        "train_command": shown(training.what_trains()),
        "test_command": own_test and shown(own_test),
    }


def _checkpoint_of(trained: Result) -> str:
    """The name of the checkpoint that `fit` has tested."""
    return Path(trained["checkpoint"]).name if trained["checkpoint"] else LAST


def _step_of(checkpoint: str, last: int) -> int:
    match = re.fullmatch(r"best-step=(\d+)\.ckpt", checkpoint)
    return int(match[1]) if match else last
