"""What augmentation does in a real Trainer: to training tasks alone, and the same after a restart or on two ranks."""

import io
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from datamodules import Augmentation, Glyphs, Loading
from datamodules.episode import Episode
from datamodules.images.augmentation import augmented
from tests.learnable_images import make_data
from tests.rank_group import RankGroup
from tests.training_runs import (
    State,
    checkpoints,
    largest_difference,
    make_learner,
    make_trainer,
    same,
    state_of,
)

AUGMENTATION = Augmentation(crop=0.5, flip=True, rotation=20, jitter=0.4)


class Seen(pl.Callback):
    """Keeps the episodes that reach the model."""

    def __init__(self) -> None:
        self.train: list[Episode] = []
        self.held_out: list[Episode] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Episode, batch_idx: int) -> None:
        self.train.append(batch)

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Episode, *args: Any) -> None:
        self.held_out.append(batch)


def assert_same(seen: list[Episode], expected: Episode) -> None:
    of_batches = zip(*(episode.tensors() for episode in seen), strict=True)
    for parts, theirs in zip(of_batches, expected.tensors(), strict=True):
        assert torch.equal(torch.cat(parts), theirs)


@pytest.mark.parametrize("loading", [Loading("device"), Loading("cpu", 1)], ids=str)
def test_training_tasks_alone_are_augmented_however_they_are_loaded(loading: Loading) -> None:
    data, seen = make_data(augmentation=AUGMENTATION, loading=loading, seed=5), Seen()
    make_trainer(seen, max_steps=3).fit(make_learner("protonet", seed=1), datamodule=data)
    unaugmented = make_data(seed=5)
    unaugmented.setup("fit")
    plain = unaugmented.episode("train", torch.arange(24))
    assert_same(seen.train, augmented(plain, 5, AUGMENTATION))
    assert not torch.equal(seen.train[0].query_x, plain.query_x[:8])
    assert_same(seen.held_out, unaugmented.episode("val", torch.arange(5)))
    for split in ("train", "val"):
        assert_same([data.episode(split, torch.arange(5))], unaugmented.episode(split, torch.arange(5)))


def train(folder: Path, task_chunk: int | None, checkpoint: str | None = None) -> State:
    """Six outer steps, or those that a checkpoint leaves to do."""
    learner = make_learner("protonet", 2 if checkpoint else 1, lr=0.01, task_chunk=task_chunk)
    trainer = make_trainer(*([] if checkpoint else checkpoints(folder)), precision="64-true")
    data = make_data(augmentation=AUGMENTATION)
    trainer.fit(learner, datamodule=data, ckpt_path=checkpoint and folder / checkpoint, weights_only=True)
    return state_of(learner)


def train_and_resume(folder: Path) -> tuple[State, State]:
    return train(folder, None), train(folder, None, "after-step=4.ckpt")


def test_chunks_a_restart_and_two_processes_change_nothing(rank_pair: RankGroup, tmp_path: Path) -> None:
    whole, resumed = train_and_resume(tmp_path / "one")
    assert same(resumed, whole)
    assert largest_difference(train(tmp_path / "chunks", 3), whole) < 1e-10
    for ours, gone_on in rank_pair(train_and_resume, tmp_path / "two"):
        assert largest_difference(ours, whole) < 1e-10
        assert same(gone_on, ours)
    learner = make_learner("protonet", 1, lr=0.01)
    make_trainer(precision="64-true").fit(learner, datamodule=make_data())
    assert largest_difference(state_of(learner), whole) > 1e-3  # augmentation was on in the above


def test_checkpoints_and_results_carry_it() -> None:
    data, stored = Glyphs(augmentation=AUGMENTATION), io.BytesIO()
    torch.save(dict(data.hparams), stored)
    stored.seek(0)
    assert torch.load(stored, weights_only=True)["augmentation"] == AUGMENTATION
    assert data.protocol()["train_augmentation"] == "crop 0.5, flip, rotation 20, jitter 0.4, per image"
    assert "train_augmentation" not in Glyphs().protocol()
