"""A run's checkpoints: the best by validation, and the last, from which the run goes on after whatever ended it."""

import re
import time
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from app.runs.folder import LAST
from datamodules.objective import CLASSIFICATION, Objective

BEST = re.compile(r"best-step=\d+\.ckpt")


class RunCheckpoint(ModelCheckpoint):
    """Keeps best-step=N.ckpt and last.ckpt in the run's folder.

    last.ckpt is written after every validation, every few minutes, at the end, and when a signal stops the run.

    Args:
        monitor: The metric whose best checkpoints are kept; None: the data's score on validation, val/accuracy or
            val/mse.
        mode: "max" where a larger metric is better, else "min"; None: as the data's score has it.
        save_top_k: How many of the best are kept; -1: all.
        every_minutes: Training time between two writings of last.ckpt, which is what a killed run loses at most;
            None: only after validations.
        tested: Which one `fit` tests at its end: "best", or "last" where a paper does not choose by validation.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["max", "min"] | None = None,
        save_top_k: int = 1,
        every_minutes: float | None = 5.0,
        tested: Literal["best", "last"] = "best",
    ) -> None:
        if tested not in ("best", "last"):
            raise ValueError(f"checkpoint.tested must be best or last, got {tested!r}.")
        if every_minutes is not None and every_minutes < 0:
            raise ValueError(f"checkpoint.every_minutes must not be negative, got {every_minutes}.")
        super().__init__(
            filename="best-{step}",
            monitor=monitor or f"val/{CLASSIFICATION.score_name}",
            mode=mode or CLASSIFICATION.direction,
            save_top_k=save_top_k,
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )
        self.every_minutes, self.tested = every_minutes, tested
        self._asked_monitor, self._asked_mode = monitor, mode
        self._saved_at = 0.0

    def follow(self, objective: Objective) -> None:
        """Takes metric and direction from what the data ask, where they were not set; before a run begins."""
        self.monitor = self._asked_monitor or f"val/{objective.score_name}"
        self.mode = self._asked_mode or objective.direction_of(self.monitor)
        self.kth_value = torch.tensor(-torch.inf if self.mode == "max" else torch.inf)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        minutes = (time.monotonic() - self._saved_at) / 60
        ends = trainer.should_stop or trainer.global_step == trainer.max_steps
        if ends and pl_module.validation_is_due:
            return  # it is saved after that, which a run that has no step left would not make up for
        # Not later than here: a checkpoint made after the end of training counts one batch twice when it is continued.
        if ends or (self.every_minutes is not None and minutes >= self.every_minutes):
            self.write_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.write_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What Lightning would write here was written before."""

    def write_last(self, trainer: Trainer) -> None:
        """Writes last.ckpt; by the first rank alone, whose state is every rank's, without waiting for the others."""
        self._saved_at = time.monotonic()
        if trainer.is_global_zero:
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            trainer.strategy.save_checkpoint(checkpoint, Path(str(self.dirpath)) / LAST)

    def state_dict(self) -> dict[str, Any]:
        """The best checkpoints by their names, so that the run's folder may be moved or mounted elsewhere."""
        scores = {Path(path).name: float(score) for path, score in self.best_k_models.items()}
        return {"best": scores, "best_of_all": Path(self.best_model_path).name}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up those that are there; of a run that began from another run's checkpoint, none are."""
        folder = Path(str(self.dirpath))
        # no other names: what is the best no more is removed
        # no other names: what is the best no more is removed
        names = {name: score for name, score in state_dict["best"].items() if BEST.fullmatch(str(name))}
        found = {str(folder / name): score for name, score in names.items() if (folder / name).is_file()}
        if not found:
            return
        # float64 holds what any metric is, so that an equal score is not taken for a better one
        self.best_k_models = {path: torch.tensor(score, dtype=torch.float64) for path, score in found.items()}
        better, worse = (max, min) if self.mode == "max" else (min, max)
        self.best_model_path = better(found, key=found.__getitem__)
        self.kth_best_model_path = worse(found, key=found.__getitem__)
        self.best_model_score = self.best_k_models[self.best_model_path]
        self.kth_value = self.best_k_models[self.kth_best_model_path]
