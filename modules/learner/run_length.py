"""The number of outer steps of a training, which schedules that end at the last one must know."""

from typing import Any


def planned_steps(trainer: Any, accumulate_batches: int) -> int:
    """The number of outer steps after which a Trainer ends; -1 where it does not say.

    Args:
        trainer: The Trainer, with its data attached.
        accumulate_batches: Batches of an outer step.
    """
    batches = getattr(trainer.datamodule, "batches_of_epoch", lambda: None)()
    if trainer.max_epochs in (None, -1) or batches is None:
        return int(trainer.max_steps)
    steps = trainer.max_epochs * batches // accumulate_batches
    return int(steps if trainer.max_steps == -1 else min(steps, trainer.max_steps))
