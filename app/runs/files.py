"""Keeps a run's folder: the same on every rank, with its configuration and all of its metrics."""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning import Callback, LightningModule, Trainer

from app.files.atomic_file import write_atomically
from app.runs.folder import RunFolder
from app.runs.results import commit, device_name
from app.runs.throughput import Throughput

SHARED_SECONDS = 30.0  # for a network's file system to show a new file


class RunFiles(Callback):
    """Writes config.yaml when a run starts or goes on, and checks that all ranks go on from the same state.

    Args:
        run: The run's folder.

    Attributes:
        config: The resolved configuration, as config.yaml's text; set when it is known.
        step: The outer step that this process goes on from; set when it is known.
        trained_by: The code and the machine of each part of the training so far.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.config = ""
        self.step = 0
        self.trained_by: list[dict[str, str | None]] = []
        self._unlogged: dict[str, Any] = {}
        self._of_checkpoints: dict[str, Any] = {}
        self._announced = False
        self.is_resumed = False

    def describe(self, config: str, of_checkpoints: dict[str, Any], is_resumed: bool) -> None:
        """Takes what is written of the run.

        Args:
            config: The resolved configuration, as config.yaml's text.
            of_checkpoints: The entries of each checkpoint that say what trained it.
            is_resumed: Whether it goes on, and does not begin.
        """
        self.config, self._of_checkpoints, self.is_resumed = config, of_checkpoints, is_resumed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.run.path = Path(trainer.strategy.broadcast(str(self.run.path)))
        if trainer.is_global_zero and (stage == "fit" or not self.run.config.exists()):
            self.run.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.run.config, self.config)
        if trainer.world_size > 1 and stage == "fit":
            self._check_ranks(trainer)

    def _check_ranks(self, trainer: Trainer) -> None:
        """Checks that all ranks see one folder and go on from one state.

        Raises:
            ValueError: On every rank, if they do not.
        """
        mark = self.run.path / f".shared-{trainer.strategy.broadcast(secrets.token_hex(8))}"
        if trainer.is_global_zero:
            mark.touch()
        trainer.strategy.barrier("the mark is there")
        seen = _appears(mark)
        values = torch.tensor([self.step, -self.step, -float(seen)], device=trainer.strategy.root_device)
        newest, oldest, unseen = trainer.strategy.reduce(values, reduce_op="max").tolist()
        if trainer.is_global_zero:
            mark.unlink()
        if newest != -oldest or unseen == 0:
            steps = f"one resumes from step {newest:,.0f} and another from step {abs(oldest):,.0f}"
            raise ValueError(
                f"the processes do not share one folder: {self.run.path} must be on a disk that all of them see"
                f"{f' ({steps})' if newest != -oldest else ''}."
            )

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the commits, and the metrics that a killed run would never log: loggers get them after the callbacks."""
        checkpoint |= self._of_checkpoints
        checkpoint["trained_by"], checkpoint["matmul_precision"] = self.trained_by, torch.get_float32_matmul_precision()
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress
        between = progress.current.processed == progress.current.completed + 1
        if trainer.training and between and getattr(pl_module, "logs_this_batch", True):
            metrics = {name: float(value) for name, value in trainer._logger_connector.metrics["log"].items()}
            checkpoint["unlogged"] = {"step": trainer.global_step - 1, "metrics": metrics}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.trained_by = list(checkpoint.get("trained_by", []))
        self._unlogged = checkpoint.get("unlogged", {}) if trainer.state.fn == "fit" and self.is_resumed else {}
        if trainer.state.fn == "fit" and not self.is_resumed:
            # Of another run: its best score, its patience, its pictures. What the training has cost is told on.
            states = checkpoint.get("callbacks", {})
            checkpoint["callbacks"] = {name: states[name] for name in states if name.startswith(Throughput.__name__)}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes code and machine, which may be others than those of the run's earlier parts, whose result is over."""
        now = {"commit": commit(), "torch": str(torch.__version__), "device": device_name(trainer)}
        if self.trained_by[-1:] != [now]:
            self.trained_by.append(now)
        if trainer.is_global_zero:
            (self.run.path / "results.json").unlink(missing_ok=True)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Says where the log is once there is something in it: a run that fails in its first batch leaves none."""
        self.announce(trainer)

    def announce(self, trainer: Trainer) -> None:
        """Says once where the dashboards are."""
        waiting = [] if self._announced else [logger for logger in trainer.loggers if hasattr(logger, "where")]
        self._announced = True
        for logger in waiting:
            trainer.lightning_module.print(logger.where)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._unlogged.get("metrics"):
            for logger in trainer.loggers:
                logger.log_metrics(self._unlogged["metrics"], self._unlogged["step"])


def _appears(path: Path) -> bool:
    """Tells whether a file is there; a network's file system may show it a while after it was made."""
    deadline = time.monotonic() + SHARED_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
        with suppress(OSError):
            os.listdir(path.parent)  # makes NFS look again
    return True


def config_text(config: dict[str, Any], origin: str | None = None) -> str:
    """The resolved configuration as YAML that `--config` takes again: without the options of the command itself.

    Args:
        config: The resolved configuration.
        origin: The other run's checkpoint that the run begins from.
    """
    commands_own = ("ckpt_path", "weights_only", "config", "return_predictions", "resume")
    kept = {key: value for key, value in config.items() if key not in commands_own}
    return yaml.safe_dump(kept | ({"ckpt_path": origin} if origin else {}), sort_keys=False)
