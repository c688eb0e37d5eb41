"""Ends a run: results.json, W&B's summary and one line for the reader."""

import os
import shlex
import sys
from typing import Any, Protocol

from pytorch_lightning import Trainer

from app.runs.files import RunFiles
from app.runs.folder import RunFolder
from app.runs.results import RunFacts, collect_results, device_name, readable, write_results
from app.runs.task_scores import write_task_scores
from app.runs.throughput import Throughput
from datamodules.episode_data import EpisodeDataModule
from modules import Learner


class Evaluated(Protocol):
    """What a report is written of: a command whose Trainer has evaluated.

    Attributes:
        arguments: The command line without the program's name.
        command: Its first word.
        options: The resolved configuration by its sections, `seed_everything` and `matmul_precision` among them.
        model: The learner.
        datamodule: Its data.
        trainer: What has evaluated.
        throughput: What the training of this process has taken.
        loaded: The checkpoint that the command began with; None: none.
        run: The folder that results are written to.
        run_files: Knows what the weights were trained by.
    """

    arguments: list[str]
    command: str
    options: Any
    model: Learner
    datamodule: EpisodeDataModule
    trainer: Trainer
    throughput: Throughput
    loaded: dict[str, Any] | None
    run: RunFolder
    run_files: RunFiles


def conclude(evaluated: Evaluated, split: str, checkpoint: str | None) -> None:
    """Writes and prints what an evaluation found; where it was not one, or nothing was scored, it writes nothing.

    Args:
        evaluated: The command.
        split: "test" or "val".
        checkpoint: What was evaluated; None: the current weights.
    """
    trainer, data = evaluated.trainer, evaluated.datamodule
    means = evaluated.model.mean_scores.get(split, [])
    if not means:
        print(f"No {split} task was scored: no results.json is written (see trainer.limit_{split}_batches).")
        return
    protocol = {**data.protocol(), **evaluated.model.protocol(), **_more_outputs(evaluated, split)}
    results = collect_results(split, means, protocol, _facts(evaluated, checkpoint))
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        print(readable(results))
        print("trainer.fast_dev_run only tries that everything runs: no results.json is written.")
        return
    write_results(evaluated.run.path / "results.json", results)
    if split == "test":
        write_task_scores(evaluated.run.path / "scores.csv", *evaluated.model.task_scores)
    for logger in trainer.loggers:
        if hasattr(logger, "add_results"):
            logger.add_results(results)
    print(readable(results))
    print(f"results: {evaluated.run.path / 'results.json'}")


def _more_outputs(evaluated: Evaluated, split: str) -> dict[str, int]:
    """With how many classes a learner with an output for each was trained, where its tasks had fewer."""
    trained = evaluated.model.fixed_way
    if trained is None or trained == evaluated.datamodule.shapes[split].n_way:
        return {}
    return {"train_n_way": trained, "outputs": trained}


def _facts(evaluated: Evaluated, checkpoint: str | None) -> RunFacts:
    trainer, throughput, loaded = evaluated.trainer, evaluated.throughput, evaluated.loaded
    step, trained_by = trainer.global_step, evaluated.run_files.trained_by
    seed = evaluated.options["seed_everything"]
    if evaluated.command != "fit" and loaded is not None:  # the training was in another process
        step, trained_by = loaded.get("global_step", 0), loaded.get("trained_by", [])
        seed = loaded["datamodule_hyper_parameters"].get("seed", seed)
        throughput.load_state_dict(loaded.get("callbacks", {}).get("Throughput", throughput.state_dict()))
    return RunFacts(
        seed=seed,
        checkpoint=checkpoint,
        command=shlex.join([os.path.basename(sys.argv[0] or "train.py"), *evaluated.arguments]),
        device=device_name(trainer),
        precision=str(trainer.precision),
        matmul_precision=evaluated.options["matmul_precision"],
        train_seconds=throughput.seconds,
        tasks_per_second=throughput.mean_rate,
        global_step=step,
        objective=evaluated.datamodule.objective.name,
        draws=evaluated.datamodule.draws,
        trained_by=trained_by,
    )
