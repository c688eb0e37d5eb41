"""The units that a training counts by: outer steps for whoever reads it, batches for what is drawn.

A Trainer counts batches. Where an outer step takes several, everything that a user reads or sets counts outer steps all
the same: the loggers' axis, log_every_n_steps and val_check_interval, as max_steps and checkpoints' names do.
"""

import torch
from pytorch_lightning import Trainer


def batches_trained(trainer: Trainer) -> int:
    """The batches that a Trainer has trained on, over all epochs, without one that an interruption broke off."""
    total = trainer.fit_loop.epoch_loop.batch_progress.total
    return total.processed  # type: ignore[attr-defined]  # Lightning declares the base class


def begin_training(trainer: Trainer, accumulate_batches: int) -> None:
    """Makes a val_check_interval that is a whole number count outer steps.

    Raises:
        ValueError: If an epoch ends before that many, so that no validation would ever come; or if the number of epochs
            ends the training, and an epoch inside an outer step.
    """
    of_epoch = trainer.num_training_batches
    ends_by_epochs = trainer.max_epochs not in (None, -1) and not trainer.fast_dev_run  # type: ignore[attr-defined]
    if ends_by_epochs and isinstance(of_epoch, int) and of_epoch % accumulate_batches:
        raise ValueError(
            f"an epoch has {of_epoch} batches, no whole number of outer steps of {accumulate_batches} batches: set the "
            "data's batches_per_epoch to a multiple of outer.accumulate_batches, or max_steps in place of max_epochs."
        )
    interval = trainer.val_check_interval
    if not isinstance(interval, int) or trainer.val_check_batch is None:
        return
    trainer.val_check_batch = interval * accumulate_batches
    if trainer.check_val_every_n_epoch is not None and trainer.val_check_batch > of_epoch:
        raise ValueError(
            f"Trainer(val_check_interval={interval}) counts outer steps, of {accumulate_batches} batches each, and an "
            f"epoch has {of_epoch} batches: lower it, or set check_val_every_n_epoch=None to count over epochs."
        )


def begin_batch(trainer: Trainer, device: torch.device) -> None:
    """Begins a training batch.

    Loggers number it by the outer steps before it, and are given nothing again that an earlier batch has logged. What a
    network draws from torch's generators, as dropout does, becomes a function of the data's seed, of the number of the
    batch in the whole training and of the rank.

    Args:
        trainer: The Trainer.
        device: Where the learner computes.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
    for value in (trainer._results or {}).values():
        value.has_reset = value.has_reset or not value.meta.on_epoch
    data = getattr(trainer, "datamodule", None)
    seed = hash((getattr(data, "seed", 0), batches_trained(trainer), trainer.global_rank))
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def end_batch(trainer: Trainer) -> None:
    """Ends a training batch: a validation after it, and the next batch, are numbered by the outer steps before them.

    Lightning counts one on after the validation, also where the outer step is not complete.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step - 1


def logs_this_step(trainer: Trainer) -> bool:
    """Tells whether loggers take the values of the outer step that has just been taken."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it without declaring it
    return every > 0 and trainer.global_step % every == 0


def validation_is_due(trainer: Trainer) -> bool:
    """Tells whether this is the end of a training batch after which a validation comes."""
    loop = trainer.fit_loop
    counts = loop.epoch_loop.batch_progress.current
    between = counts.processed == counts.completed + 1  # type: ignore[attr-defined]  # declared as the base class
    return between and loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
