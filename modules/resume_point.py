"""Where a resumed run goes on when its checkpoint was saved between the batches of one outer step."""

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
