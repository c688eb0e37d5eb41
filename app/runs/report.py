"""Ends a run: results.json, W&B's summary and one line for the reader."""

import os
import shlex
import sys
from typing import TYPE_CHECKING

from app.runs.files import NOT_NOTED
from app.runs.results import RunFacts, collect_results, device_name, readable, write_results
from modules.scores import N_TASKS

if TYPE_CHECKING:
    from app.application import Application


def report(application: "Application", split: str, checkpoint: str | None) -> None:
    """Writes and prints what an evaluation found; where it was not one, or nothing was scored, it writes nothing.

    Args:
        application: The application, whose Trainer has just evaluated.
        split: "test" or "val".
        checkpoint: What was evaluated; None: the current weights.
    """
    trainer, data = application.trainer, application.datamodule
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    n_tasks = int(metrics.get(f"{split}/{N_TASKS}", 0))
    if n_tasks == 0:
        print(f"No {split} task was scored: no results.json is written (see trainer.limit_{split}_batches).")
        return
    protocol = {**data.protocol(), **application.model.protocol(), **_more_outputs(application, split)}
    results = collect_results(split, metrics, n_tasks, protocol, _facts(application, checkpoint))
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        print(readable(results))
        print("trainer.fast_dev_run only tries that everything runs: no results.json is written.")
        return
    write_results(application.run.path / "results.json", results)
    for logger in trainer.loggers:
        if hasattr(logger, "add_results"):
            logger.add_results(results)
    print(readable(results))
    print(f"results: {application.run.path / 'results.json'}")


def _more_outputs(application: "Application", split: str) -> dict[str, int]:
    """With how many classes a learner with an output for each was trained, where its tasks had fewer."""
    trained = application.model.fixed_way
    if trained is None or trained == application.datamodule.shapes[split].n_way:
        return {}
    return {"train_n_way": trained, "outputs": trained}


def _facts(application: "Application", checkpoint: str | None) -> RunFacts:
    trainer, throughput, loaded = application.trainer, application.throughput, application.loaded
    step, trained_by = trainer.global_step, application.run_files.trained_by
    seed = application.options["seed_everything"]
    if application.command != "fit" and loaded is not None:  # the training was in another process
        step, trained_by = loaded.get("global_step", 0), loaded.get("trained_by", [NOT_NOTED])
        seed = loaded["datamodule_hyper_parameters"].get("seed", seed)
        throughput.load_state_dict(loaded.get("callbacks", {}).get("Throughput", throughput.state_dict()))
    return RunFacts(
        seed=seed,
        checkpoint=checkpoint,
        command=shlex.join([os.path.basename(sys.argv[0] or "train.py"), *application.arguments]),
        device=device_name(trainer),
        precision=str(trainer.precision),
        matmul_precision=application.options["matmul_precision"],
        train_seconds=throughput.seconds,
        tasks_per_second=throughput.mean_rate,
        global_step=step,
        objective=application.datamodule.objective.name,
        draws=application.datamodule.draws,
        trained_by=trained_by,
    )
