"""Early stopping that is off until it is asked for."""

import sys
from typing import Literal

import pytorch_lightning as pl
import torch

from datamodules.objective import CLASSIFICATION, Objective


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Stops training when the validation's score has not improved for a while.

    Args:
        patience: Validations without an improvement after which training stops; None: never.
        min_delta: The least change that counts as an improvement.
        monitor: The metric to watch; None: the data's score on validation, val/accuracy or val/mse.
        mode: "max" where a larger metric is better, else "min"; None: as the data's score has it.
    """

    def __init__(
        self,
        patience: int | None = None,
        min_delta: float = 0.0,
        monitor: str | None = None,
        mode: Literal["max", "min"] | None = None,
    ) -> None:
        if patience is not None and patience < 1:
            raise ValueError(f"early_stopping.patience must be at least 1, got {patience}.")
        super().__init__(
            monitor or f"val/{CLASSIFICATION.score_name}",
            min_delta=min_delta,
            patience=patience or sys.maxsize,
            mode=mode or CLASSIFICATION.direction,
            check_finite=False,  # one task that diverges in evaluation is no reason to stop a sound training
        )
        self._asked_monitor, self._asked_mode = monitor, mode

    def follow(self, objective: Objective) -> None:
        """Takes metric and direction from what the data ask, where they were not set; before a run begins."""
        self.monitor = self._asked_monitor or f"val/{objective.score_name}"
        self.mode = self._asked_mode or objective.direction_of(self.monitor)
        sign = 1 if self.mode == "max" else -1
        self.min_delta = sign * abs(self.min_delta)
        self.best_score = torch.tensor(-sign * torch.inf)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps a run stopped that was stopped before: started again, it would train to one more validation."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
