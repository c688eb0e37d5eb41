"""Keeps a run's folder: the same on every rank, with its configuration and all of its metrics."""

from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning import Callback, LightningModule, Trainer

from app.run_folder import RunFolder
from app.whole_file import write_whole


class RunFiles(Callback):
    """Writes config.yaml when a run starts or goes on, and checks that all ranks go on from the same state.

    Args:
        run: The run's folder.

    Attributes:
        config: The resolved configuration, as config.yaml's text; set when it is known.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.config = ""
        self._unlogged: dict[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.run.path = Path(trainer.strategy.broadcast(str(self.run.path)))
        if trainer.is_global_zero and (stage == "fit" or not self.run.config.exists()):
            self.run.path.mkdir(parents=True, exist_ok=True)
            write_whole(self.run.config, self.config)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the training metrics that loggers get only after the callbacks, which a killed run would never log."""
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress
        between = progress.current.processed == progress.current.completed + 1
        if trainer.training and between and getattr(pl_module, "logs_this_batch", True):
            metrics = {name: float(value) for name, value in trainer._logger_connector.metrics["log"].items()}
            checkpoint["unlogged"] = {"step": progress.total.processed - 1, "metrics": metrics}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._unlogged = checkpoint.get("unlogged", {}) if trainer.state.fn == "fit" else {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._unlogged.get("metrics"):
            for logger in trainer.loggers:
                logger.log_metrics(self._unlogged["metrics"], self._unlogged["step"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            step = torch.tensor(trainer.global_step, dtype=torch.float64, device=trainer.strategy.root_device)
            newest, oldest = (float(trainer.strategy.reduce(sign * step, reduce_op="max")) * sign for sign in (1, -1))
            if newest != oldest:
                raise RuntimeError(
                    f"one process goes on from step {newest:,.0f} and another from step {oldest:,.0f}: "
                    f"{self.run.path} must be one folder that all machines share."
                )


def config_text(config: dict[str, Any]) -> str:
    """The resolved configuration as YAML that `--config` takes again: without the options of the command itself."""
    kept = {
        key: value
        for key, value in config.items()
        if key not in ("ckpt_path", "weights_only", "config", "return_predictions")
    }
    return yaml.safe_dump(kept, sort_keys=False)
