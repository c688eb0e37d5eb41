"""`--trainer.max_time` on several ranks, without a word between them at every step."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Timer

from app.runs.rank_agreement import RankAgreement


class TimeLimit(Timer):
    """Lightning's Timer; it sends an object from rank to rank after each batch, for which a GPU's host waits.

    Here the ranks ask each other about once a second, and all stop after the same batch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._agreement = RankAgreement()

    @property
    def state_key(self) -> str:
        """Lightning's, so that a run that began with its Timer goes on."""
        return Timer.__qualname__

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._agreement.start()

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Ends the training after this batch where the time is over on any rank."""
        over = self._duration is not None and self.time_elapsed() >= self._duration
        if self._agreement.after_batch(trainer, over):
            trainer.should_stop = True


def with_time_limit(callbacks: list[Callback], max_time: Any) -> list[Callback]:
    """The callbacks, with this class's in place of the Timer that a Trainer has made of its max_time."""
    return [TimeLimit(duration=max_time) if type(callback) is Timer else callback for callback in callbacks]
