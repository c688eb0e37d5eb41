"""Counts what training costs: seconds and tasks, over all the sessions of a resumed run."""

import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Measures tasks per second of training, validations left out, and logs `train/tasks_per_second`.

    Attributes:
        seconds: Training time so far, in s.
        tasks: Training tasks so far, over all devices.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tasks = 0
        self._since: float | None = None
        self._window = (0.0, 0)  # seconds and tasks when the rate was last taken
        self.rate = 0.0

    @property
    def mean_rate(self) -> float:
        """Tasks per second over the whole training."""
        return self.tasks / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._window = (self.seconds, self.tasks)
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._count_time()
        self.tasks += getattr(trainer.datamodule, "meta_batch_size", 1)  # type: ignore[attr-defined]
        seconds, tasks = self.seconds - self._window[0], self.tasks - self._window[1]
        if seconds > 0.5:
            self.rate, self._window = tasks / seconds, (self.seconds, self.tasks)
        if getattr(pl_module, "logs_this_batch", True):
            pl_module.log("train/tasks_per_second", self.rate or self.mean_rate)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize(pl_module.device)  # steps that the GPU still computes are training
            self._count_time()
            self._since = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "tasks": self.tasks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # `fit` ends by loading the best checkpoint, which may be an earlier one: time already counted stays counted.
        if state_dict["seconds"] >= self.seconds:
            self.seconds, self.tasks = state_dict["seconds"], state_dict["tasks"]

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.seconds += now - (self._since or now)
        self._since = now
