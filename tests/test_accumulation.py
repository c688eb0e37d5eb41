"""Accumulated batches are one larger batch, and a resumed run goes on between outer steps."""

from pathlib import Path
from typing import Any

import pytest
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
    trainer = make_trainer(*(checkpoints(folder) if folder else []), precision="64-true", val_check_interval=6)
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

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "train/loss" in metrics:
            self.losses[step] = metrics["train/loss"]


@pytest.mark.parametrize(("every", "n_rows"), [(1, 11), (3, 4), (0, 0)])
def test_loggers_get_the_newest_outer_step(every: int, n_rows: int) -> None:
    """Two batches an outer step: an odd interval falls between outer steps as often as on them."""
    rows, learner = Rows(), make_learner("maml", seed=1, accumulate_batches=2)
    trainer = make_trainer(val_check_interval=6, log_every_n_steps=every)
    trainer.loggers = [rows]
    trainer.fit(learner, datamodule=make_data(meta_batch_size=4))
    assert len(rows.losses) == n_rows
    if every == 3:
        assert len(set(rows.losses.values())) == n_rows
