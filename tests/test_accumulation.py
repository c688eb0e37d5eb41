"""Accumulated batches are one larger batch, and a resumed run goes on between outer steps."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers.logger import Logger

from tests.learnable_images import make_data
from tests.training_runs import (
    METHODS,
    State,
    checkpoints,
    largest_difference,
    make_learner,
    make_trainer,
    same,
    state_of,
)


def train(method: str, n_batches: int, folder: Path | None = None, seed: int = 1, ckpt_path: Any = None) -> State:
    """Six outer steps on the same tasks, in one batch of 8 or in two of 4."""
    learner = make_learner(method, seed, accumulate_batches=n_batches)
    trainer = make_trainer(*(checkpoints(folder) if folder else []), precision="64-true")
    trainer.fit(learner, datamodule=make_data(meta_batch_size=8 // n_batches), ckpt_path=ckpt_path, weights_only=True)
    assert trainer.global_step == 6
    return state_of(learner)


@pytest.mark.parametrize("method", METHODS)
def test_two_batches_of_four_are_one_of_eight(method: str) -> None:
    assert largest_difference(train(method, 2), train(method, 1)) < 1e-10


@pytest.mark.parametrize("checkpoint", ["after-step=4", "validated-step=3"])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, checkpoint: str) -> None:
    whole = train("maml", 2, tmp_path / "whole")
    resumed = train("maml", 2, tmp_path / "resumed", seed=2, ckpt_path=tmp_path / "whole" / f"{checkpoint}.ckpt")
    assert same(resumed, whole)
    for path in tmp_path.rglob("*.ckpt"):  # those of the resumed run too
        assert same(train("maml", 2, seed=3, ckpt_path=path), whole), path


class Rows(Logger):
    """Keeps what a logger is given."""

    name, version = "rows", 0

    def __init__(self) -> None:
        super().__init__()
        self.losses: dict[int | None, float] = {}
        self.validated: list[int | None] = []

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "train/loss" in metrics:
            assert step not in self.losses
            self.losses[step] = metrics["train/loss"]
        if "val/loss" in metrics:
            self.validated.append(step)


@pytest.mark.parametrize(("every", "steps"), [(1, [0, 1, 2, 3, 4, 5]), (3, [2, 5]), (4, [3]), (0, [])])
@pytest.mark.parametrize("limits", [{}, {"limit_train_batches": 3}], ids=str)
def test_loggers_and_validations_count_outer_steps(every: int, steps: list[int], limits: dict[str, int]) -> None:
    """Two batches an outer step, also where an epoch's end falls into one. A Trainer numbers rows from 0."""
    rows, learner = Rows(), make_learner("maml", seed=1, accumulate_batches=2)
    trainer = make_trainer(log_every_n_steps=every, **limits)
    trainer.loggers = [rows]
    trainer.fit(learner, datamodule=make_data(meta_batch_size=4))
    assert list(rows.losses) == steps
    assert len(set(rows.losses.values())) == len(steps)
    assert rows.validated == [2, 5]
    assert trainer.global_step == 6


def test_stopping_between_two_rows_logs_none_again() -> None:
    """A Trainer that is told to stop logs whatever it was given last, at whatever step."""

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.global_step == 5

    rows, trainer = Rows(), make_trainer(Stop(), log_every_n_steps=3)
    trainer.loggers = [rows]
    trainer.fit(make_learner("maml", seed=1), datamodule=make_data())
    assert list(rows.losses) == [2]


def test_an_outer_step_goes_over_the_end_of_an_epoch(tmp_path: Path) -> None:
    """Epochs are only a cut in the endless stream, for a resumed run too."""

    def run(folder: Path, seed: int, ckpt_path: Path | None = None, **limits: int) -> State:
        learner = make_learner("maml", seed, accumulate_batches=2)
        trainer = make_trainer(EveryBatch(folder), precision="64-true", **limits)
        trainer.fit(learner, datamodule=make_data(meta_batch_size=4), ckpt_path=ckpt_path, weights_only=True)
        return state_of(learner)

    whole = run(tmp_path / "whole", 1)
    assert same(run(tmp_path / "epochs", 1, limit_train_batches=3), whole)
    for batch in (3, 4, 7):  # the first of an outer step at an epoch's end, the second in the next, the first again
        path = tmp_path / "epochs" / f"{batch}.ckpt"
        assert same(run(tmp_path / "resumed", 2, path, limit_train_batches=3), whole), batch


class EveryBatch(pl.Callback):
    """Saves after every batch."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.batch = folder, 0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.batch += 1
        trainer.save_checkpoint(self.folder / f"{self.batch}.ckpt")


def test_what_a_stopped_fit_has_accumulated_is_in_no_later_step() -> None:
    class StopAfterThree(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: Any, output: Any, batch: Any, batch_idx: int) -> None:
            trainer.should_stop = batch_idx == 2

    learner, data = make_learner("maml", seed=1, accumulate_batches=2), make_data(meta_batch_size=4)
    make_trainer(StopAfterThree(), precision="64-true").fit(learner, datamodule=data)
    fresh = make_learner("maml", seed=2, accumulate_batches=2).double()
    fresh.load_state_dict(state_of(learner))
    for again in (learner, fresh):
        make_trainer(precision="64-true", max_steps=1).fit(again, datamodule=data)
    assert same(state_of(learner), state_of(fresh))
