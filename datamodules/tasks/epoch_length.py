"""The length of an epoch: the task stream has no end, but a Trainer may count in epochs."""

from typing import Any


def epoch_length(trainer: Any, batches: int) -> int | None:
    """The batches after which an epoch of training ends.

    Args:
        trainer: A Trainer, or None.
        batches: Batches of an epoch where the Trainer's limit_train_batches does not say.

    Returns:
        None where nothing counts in epochs and the stream goes on: there is no max_epochs, and validations come after a
        number of batches or seconds.
    """
    every, interval = (getattr(trainer, name, None) for name in ("check_val_every_n_epoch", "val_check_interval"))
    validates_by_epoch = every is not None and isinstance(interval, float)
    if getattr(trainer, "max_epochs", -1) == -1 and not validates_by_epoch:
        return None
    limit = trainer.limit_train_batches
    return limit if isinstance(limit, int) else batches
