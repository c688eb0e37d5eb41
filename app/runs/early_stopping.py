"""Early stopping that is off until it is asked for."""

import sys

import pytorch_lightning as pl


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Stops training when the validation accuracy has not improved for a while.

    Args:
        patience: Validations without an improvement after which training stops; None: never.
        min_delta: The least change that counts as an improvement.
        monitor: The metric to watch.
        mode: "max" where a larger metric is better, else "min".
    """

    def __init__(
        self,
        patience: int | None = None,
        min_delta: float = 0.0,
        monitor: str = "val/accuracy",
        mode: str = "max",
    ) -> None:
        if patience is not None and patience < 1:
            raise ValueError(f"early_stopping.patience must be at least 1, got {patience}.")
        super().__init__(monitor, min_delta=min_delta, patience=patience or sys.maxsize, mode=mode)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps a run stopped that was stopped before: started again, it would train to one more validation."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
