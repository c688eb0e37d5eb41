"""Keeps a run's folder: the same on every rank, with its configuration and its last checkpoint."""

from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Callback, LightningModule, Trainer

from app.run_folder import RunFolder


class RunFiles(Callback):
    """Writes config.yaml when a run starts and last.ckpt when it ends.

    Args:
        run: The run's folder.

    Attributes:
        config: The resolved configuration, as config.yaml's text; set when it is known.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.config = ""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.run.path = Path(trainer.strategy.broadcast(str(self.run.path)))
        if trainer.is_global_zero:
            self.run.path.mkdir(parents=True, exist_ok=True)
            if stage == "fit" or not (self.run.path / "config.yaml").exists():
                (self.run.path / "config.yaml").write_text(self.config)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # Training need not end with a validation, after which Lightning would save. Not later than here: a checkpoint
        # made after the end of training counts one batch twice when it is continued.
        if trainer.global_step == trainer.max_steps:
            trainer.save_checkpoint(self.run.last_checkpoint)


def config_text(config: dict[str, Any]) -> str:
    """The resolved configuration as YAML that `--config` takes again: without the options of the command itself."""
    kept = {
        key: value
        for key, value in config.items()
        if key not in ("ckpt_path", "weights_only", "config", "return_predictions")
    }
    return yaml.safe_dump(kept, sort_keys=False)
