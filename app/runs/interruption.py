"""A signal stops a run between two steps, or in the middle of a validation, with its state saved."""

from collections.abc import Callable
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from app.process.errors import InterruptedRun
from app.process.signals import StopSignals
from app.runs.rank_agreement import RankAgreement
from app.runs.run_checkpoint import RunCheckpoint
from modules.learner.resume_point import begin_with_validation


class Interruption(Callback):
    """Saves last.ckpt and ends the run after the step in which a signal came; a second Ctrl-C ends it at once.

    Args:
        signals: What has come.
        how_to_resume: Gives the sentence that says where the state is and what resumes it.
    """

    def __init__(self, signals: StopSignals, how_to_resume: Callable[[], str]) -> None:
        self.signals, self.how_to_resume = signals, how_to_resume
        self._stop = False  # agreed by all ranks
        self._validating = False
        self._agreement = RankAgreement()  # ranks that stopped at different steps would wait for each other for ever

    # ---- whose handlers: Lightning puts its own in place when a Trainer begins

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.install()
        self.signals.postponed = True
        self._agreement.start()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.postponed = False

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.install()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.install()

    # ---- training

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        came = self._agreement.after_batch(trainer, self.signals.number is not None)
        self._stop = self._stop or came
        if self._stop and not pl_module.validation_is_due:
            self._save(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self._stop:  # only here: by now the step before has been logged
            self._end(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._stop or self._agreement.ask(trainer, self.signals.number is not None):
            self._end(trainer)

    # ---- validation, which may take minutes

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            self.signals.install()
            return
        self._validating = True
        if self._stop:
            self._stop_validation(trainer)
        elif trainer.world_size > 1:  # while it waits for the others at the end, the first rank hears no signal
            self._save(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # Ranks may validate different numbers of batches, so that they cannot ask each other; a cluster tells them all.
        if self._validating and self.signals.number is not None:
            self._stop_validation(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validating = False

    def _stop_validation(self, trainer: Trainer) -> None:
        self._save(trainer)
        self._end(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._validating:
            begin_with_validation(checkpoint)

    # ---- both

    def _save(self, trainer: Trainer) -> None:
        """Saves, except at the last step before its validation: there is no training left to begin with that."""
        if not (self._validating and trainer.global_step == trainer.max_steps):
            for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it without declaring it
                if isinstance(callback, RunCheckpoint):
                    callback.write_last(trainer)

    def _end(self, trainer: Trainer) -> None:
        where = "in the validation after" if self._validating else "after"
        raise InterruptedRun(
            f"Stopped {where} step {trainer.global_step:,}.{self.how_to_resume()}", self.signals.exit_code
        )
