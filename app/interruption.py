"""Ctrl-C and the cluster's SIGTERM stop a run between two steps, with its state saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from app.errors import InterruptedRun
from app.run_folder import RunFolder

SIGNALS = (signal.SIGINT, signal.SIGTERM)
RANKS_AGREE_EVERY = 10  # steps; ranks that stopped at different steps would wait for each other for ever


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Puts the signals' handlers back as they were: Lightning leaves its own, or none, behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interruption(Callback):
    """Saves last.ckpt and ends the run after the step in which the signal came; a second signal ends it at once.

    Args:
        run: The run's folder.
        resume_command: Gives the command that continues the run.
    """

    def __init__(self, run: RunFolder, resume_command: Callable[[], str]) -> None:
        self.run = run
        self.resume_command = resume_command
        self.signal: int | None = None
        self._saved = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not before: Lightning installs its own handler for SIGTERM, which would stop the ranks at different steps.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._remember)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        stop = self.signal is not None
        if trainer.world_size > 1:
            if trainer.global_step % RANKS_AGREE_EVERY:
                return
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            trainer.save_checkpoint(self.run.last_checkpoint)
            self._saved = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._end(trainer)  # here, when the step before has been logged

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end(trainer)

    def _end(self, trainer: Trainer) -> None:
        if self._saved:
            raise InterruptedRun(
                f"Stopped after step {trainer.global_step:,}; the state is in {self.run.last_checkpoint}. "
                f"Continue with: {self.resume_command()}",
                exit_code=128 + (self.signal or signal.SIGTERM),
            )

    def _remember(self, number: int, frame: Any) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
