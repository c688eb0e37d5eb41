"""Where a resumed run goes on: at the last outer step, with the validation that was still due."""

from typing import Any

from modules.learner.outer_loop import OuterLoop

BEGUN = "begun_batches"  # a checkpoint's key: batches since the last outer step


def rewind_to_outer_step(checkpoint: dict[str, Any]) -> None:
    """Counts batches after the last outer step as not trained on: the gradient they left is not in the checkpoint.

    The weights are those of the last outer step, so the resumed run takes the same steps as an uninterrupted one.

    Args:
        checkpoint: A checkpoint's contents as Lightning read them, before it restores its loops from them.
    """
    fit_loop = checkpoint.get("loops", {}).get("fit_loop")
    begun = checkpoint.get(BEGUN, 0)
    if fit_loop is None or not begun:
        return
    progress = fit_loop["epoch_loop.batch_progress"]
    for counts in (progress["current"], progress["total"]):  # an outer step may have begun in the epoch before
        counts.update({stage: max(0, count - begun) for stage, count in counts.items()})


def apply_outer_settings(checkpoint: dict[str, Any], outer: OuterLoop, total_steps: int) -> None:
    """Makes a run that goes on from a checkpoint use its own learning rate, weight decay and schedule.

    Lightning restores those of the run before with the optimizer's state. Where they are the same nothing changes.

    Args:
        checkpoint: A checkpoint's contents, before the optimizer is restored from them.
        outer: The settings of the run that goes on.
        total_steps: Its outer steps, trainer.max_steps.

    Raises:
        ValueError: If the checkpoint holds the state of another optimizer.
    """
    for state in checkpoint.get("optimizer_states", []):
        step = checkpoint["global_step"]
        for group in state["param_groups"]:
            was = "adam" if "betas" in group else "sgd"
            if was != outer.optimizer:
                raise ValueError(
                    f"outer.optimizer {was} -> {outer.optimizer}: the checkpoint holds the state of {was}, which "
                    f"{outer.optimizer} cannot use. Leave outer.optimizer as it was."
                )
            group["weight_decay"], group["initial_lr"] = outer.weight_decay, outer.lr
            group["lr"] = outer.lr * outer.lr_factor(step, total_steps)
    for schedule in checkpoint.get("lr_schedulers", []):
        schedule["base_lrs"] = [outer.lr] * len(schedule["base_lrs"])
        factor = outer.lr_factor(schedule["last_epoch"], total_steps)
        schedule["_last_lr"] = [lr * factor for lr in schedule["base_lrs"]]


def begin_with_validation(checkpoint: dict[str, Any]) -> None:
    """Makes a run that goes on from this checkpoint begin with the validation that its last batch asks for.

    Lightning leaves a validation out where the checkpoint was saved after the batch and before the validation, and one
    saved in the middle of it goes on in the middle, with the scores of the tasks before forgotten. Here it is repeated
    from its first task.

    Args:
        checkpoint: A checkpoint's contents, before they are written.
    """
    fit_loop = checkpoint["loops"]["fit_loop"]
    trained = fit_loop["epoch_loop.batch_progress"]
    validated = fit_loop["epoch_loop.val_loop.batch_progress"]
    for stage in ("current", "total"):
        trained[stage]["completed"] = trained[stage]["processed"]
        validated[stage].update(ready=1, started=1, processed=0, completed=0)  # in the middle of the first batch
