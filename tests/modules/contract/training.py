"""Short trainings of small learners, in one process or as one of two ranks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl

from datamodules.episode_data import EpisodeDataModule
from datamodules.settings import Evaluation
from modules import Learner
from tests.every_learner import data_of, make_suited, own_outer
from tests.training_runs import State, checkpoints, make_trainer, rank, state_of

STEPS = 6  # outer ones


class Layout(NamedTuple):
    """How tasks are computed, which changes no result."""

    task_strategy: str
    task_chunk: int | None
    n_ranks: int


@dataclass
class Training:
    """What has been trained, with its Trainer."""

    learner: Learner
    data: EpisodeDataModule
    trainer: pl.Trainer
    state: State


def train(kind: type[Learner], layout: Layout, folder: Path, seed: int, checkpoint: str | None = None) -> Training:
    """Six outer steps, or those that a checkpoint leaves to do, in double precision; ranks begin with other weights."""
    outer: dict[str, Any] = {"task_strategy": layout.task_strategy, "task_chunk": layout.task_chunk}
    outer["clip_norm"] = own_outer(kind).clip_norm or 0.5
    learner, data = make_suited(kind, seed=seed + 1000 * rank(), outer=outer)
    trainer = make_trainer(
        *([] if checkpoint else checkpoints(folder)), max_steps=STEPS, precision="64-true", log_every_n_steps=1
    )
    trainer.fit(learner, datamodule=data, ckpt_path=checkpoint and folder / checkpoint, weights_only=True)
    assert trainer.global_step == STEPS
    return Training(learner, data, trainer, state_of(learner))


def train_and_resume(kind: type[Learner], layout: Layout, folder: Path) -> list[State]:
    """A whole run, one resumed after a step, one resumed from a validation; both with other initial weights."""
    resumed = [(2, "after-step=4.ckpt"), (3, "validated-step=3.ckpt")]
    return [train(kind, layout, folder, *run).state for run in [(1, None), *resumed]]


def with_few_tasks(objective: str, **changes: Any) -> EpisodeDataModule:
    """Data for an evaluation of five test tasks, or otherwise changed ones."""
    return data_of(objective, evaluation=Evaluation(n_test_tasks=5, batch_size=3, **changes))
