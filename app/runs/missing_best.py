"""Why a run that has ended has no best checkpoint to test."""

from pytorch_lightning import Trainer

from app.runs.run_checkpoint import RunCheckpoint


def why_none_is_best(trainer: Trainer, checkpointing: RunCheckpoint) -> str:
    """The reason, as a clause.

    Args:
        trainer: The Trainer, after its training and before its test.
        checkpointing: What kept the checkpoints.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        return "No best checkpoint is kept (trainer.fast_dev_run)"
    if trainer.limit_val_batches == 0:
        return "Validation is switched off (trainer.limit_val_batches is 0)"
    if checkpointing.monitor in trainer.callback_metrics:
        if checkpointing.save_top_k == 0:
            return "No best checkpoint is kept (checkpoint.save_top_k is 0)"
        return f"No checkpoint with the best {checkpointing.monitor} can be read"
    interval = trainer.val_check_interval
    rhythm = f"they come every {interval:,} steps, and the training" if isinstance(interval, int) else "the training"
    return f"No validation came before the end ({rhythm} ended at step {trainer.global_step:,})"
