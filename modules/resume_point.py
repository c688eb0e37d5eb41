"""Where a resumed run goes on: at the last outer step, with the validation that was still due."""

from typing import Any


def rewind_to_outer_step(checkpoint: dict[str, Any], accumulate_batches: int) -> None:
    """Counts batches after the last outer step as not trained on: the gradient they left is not in the checkpoint.

    The weights are those of the last outer step, so the resumed run takes the same steps as an uninterrupted one.

    Args:
        checkpoint: A checkpoint's contents as Lightning read them, before it restores its loops from them.
        accumulate_batches: Batches of an outer step.
    """
    fit_loop = checkpoint.get("loops", {}).get("fit_loop")
    if fit_loop is None:
        return
    progress = fit_loop["epoch_loop.batch_progress"]
    surplus = progress["current"]["processed"] % accumulate_batches
    for counts in (progress["current"], progress["total"]):
        counts.update({stage: count - surplus for stage, count in counts.items()})
    fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= surplus  # what loggers count by


def batches_trained(checkpoint: dict[str, Any], accumulate_batches: int) -> int:
    """The batches of the outer steps that a checkpoint's weights have taken."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return int(progress["total"]["processed"] - progress["current"]["processed"] % accumulate_batches)


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
