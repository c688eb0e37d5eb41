"""What a run shows while it works: one bar on a terminal, one line for each validation elsewhere."""

import sys
import time
from typing import Any, cast

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from app.runs.score_text import score_text
from app.runs.throughput import Throughput
from datamodules.objective import Objective
from modules import Learner


class RunProgress(ProgressBar):
    """One rich bar with the rate, scores and time left; plain lines where stdout is not a terminal.

    Args:
        throughput: Who counts the tasks.
    """

    def __init__(self, throughput: Throughput) -> None:
        super().__init__()
        self.throughput = throughput
        self.best = float("nan")
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._refreshed = 0.0
        self._enabled = True

    def disable(self) -> None:
        """Ranks above 0 show nothing."""
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    @property
    def is_enabled(self) -> bool:
        """Tells whether this process shows anything."""
        return self._enabled

    def print(self, *args: Any, **kwargs: Any) -> None:
        """What a learner prints goes above the bar."""
        print(*args) if self._bar is None else self._bar.console.print(*args)

    # ---- training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = trainer.max_steps if trainer.max_steps > 0 else None
        self._start("train", total, completed=trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        now = time.monotonic()
        if self._bar is not None and now - self._refreshed > 0.25:  # reading a metric waits for the device
            self._refreshed = now
            self._show(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        objective = _objective(trainer)
        score = _metric(trainer, f"val/{objective.score_name}")
        better = max if objective.higher_is_better else min
        self.best = score if self.best != self.best else better(self.best, score)
        if self._bar is not None:
            self._show(trainer)
        elif self._enabled:
            of = f"/{trainer.max_steps:,}" if trainer.max_steps > 0 else ""
            print(
                f"step {trainer.global_step:,}{of}  {_train_score(trainer)}  val {score_text(score, objective)}"
                f" (best {score_text(self.best, objective)})  {self.throughput.mean_rate:,.0f} {_unit(trainer)}/s",
                flush=True,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer)
        self._stop()

    # ---- test, validate, predict

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start("test", _total(trainer.num_test_batches))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start("predict", _total(trainer.num_predict_batches))

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._advance()

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._advance()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    # ---- the bar

    def _start(self, what: str, total: float | None, completed: int = 0) -> None:
        self._stop()
        if not (self._enabled and sys.stdout.isatty()):
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._bar = Progress(*columns, refresh_per_second=4)
        self._task = self._bar.add_task(what, total=total, completed=completed, shown="")
        self._bar.start()

    def _show(self, trainer: Trainer) -> None:
        if self._bar is None or self._task is None:
            return
        rate = self.throughput.rate or self.throughput.mean_rate
        shown = f"{rate:,.0f} {_unit(trainer)}/s  {_train_score(trainer)}"
        if self.best == self.best:
            shown += f"  best val {score_text(self.best, _objective(trainer))}"
        self._bar.update(self._task, completed=trainer.global_step, shown=shown)

    def _advance(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


def _objective(trainer: Trainer) -> Objective:
    return cast(Learner, trainer.lightning_module).objective


def _unit(trainer: Trainer) -> str:
    """Returns what a training batch holds: tasks, or groups of labelled examples."""
    return "tasks" if cast(Learner, trainer.lightning_module).trains_on == "tasks" else "groups"


def _train_score(trainer: Trainer) -> str:
    """The score of the newest outer step; of a method that adapts to no task in training, its own score or loss."""
    objective, metrics = _objective(trainer), cast(Learner, trainer.lightning_module).train_metrics
    for name, value in metrics.items():
        if name.endswith(objective.score_name):
            of_what = "" if name == objective.score_name else f"{name} "
            return f"train {of_what}{score_text(float(value), objective, decimals=1)}"
    return "  ".join(f"train {name} {float(value):.4f}" for name, value in metrics.items())


def _metric(trainer: Trainer, name: str) -> float:
    return float(trainer.callback_metrics.get(name, float("nan")))


def _total(batches: Any) -> float | None:
    total = sum(batches) if isinstance(batches, list) else batches
    return None if total == float("inf") else total
