"""The episodes that reach a model through a real Trainer, and those that reach it after a restart."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from datamodules.episode import Episode
from datamodules.settings import Loading
from tests.datamodules.numbered_images import NumberedImages, assert_same, concatenated, make_data

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint"),
    pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
    pytest.mark.filterwarnings("ignore:You requested to overfit"),
    pytest.mark.filterwarnings("ignore:predict returned None"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
]
PATHS = [Loading("device"), Loading("device", 1), Loading("cpu"), Loading("cpu", 2)]


class Recorder(pl.LightningModule):
    """Learns nothing and keeps what it sees; stops with an error at one batch if told to."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = nn.Parameter(torch.zeros(()))
        self.fail_at = fail_at
        self.seen: dict[str, list[Episode]] = {"sanity": [], "train": [], "val": [], "test": [], "predict": []}

    def training_step(self, episode: Episode, batch_idx: int) -> None:
        if batch_idx == self.fail_at:
            raise ConnectionError("the machine went away")
        self.seen["train"].append(episode)
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.step()

    def validation_step(self, episode: Episode, batch_idx: int) -> None:
        self.seen["sanity" if self.trainer.sanity_checking else "val"].append(episode)

    def test_step(self, episode: Episode, batch_idx: int) -> None:
        self.seen["test"].append(episode)

    def predict_step(self, episode: Episode, batch_idx: int) -> None:
        self.seen["predict"].append(episode)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def make_trainer(max_steps: int, *callbacks: pl.Callback, **changes: Any) -> pl.Trainer:
    settings: dict[str, Any] = {"max_epochs": -1, "val_check_interval": 2, "check_val_every_n_epoch": None}
    return pl.Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        **(settings | changes),
    )


def assert_saw(seen: list[Episode], split: str, start: int, stop: int) -> None:
    """Whether these were the split's tasks from number `start` up to `stop`, in order."""
    assert_same(concatenated(seen), make_data().episode(split, torch.arange(start, stop)))


@pytest.mark.parametrize("loading", PATHS, ids=str)
def test_every_path_shows_the_same_episodes(loading: Loading) -> None:
    recorder, data, trainer = Recorder(), make_data(loading=loading), make_trainer(max_steps=5)
    trainer.fit(recorder, datamodule=data)
    assert_saw(recorder.seen["train"], "train", 0, 40)
    assert_saw(recorder.seen["sanity"], "val", 0, 2)
    assert len(recorder.seen["val"]) == 14  # 2 validations of 13 tasks, 2 at a time
    for half in (recorder.seen["val"][:7], recorder.seen["val"][7:]):
        assert_saw(half, "val", 0, 13)
    recorder.seen["val"].clear()
    trainer.validate(recorder, datamodule=data, verbose=False)
    trainer.test(recorder, datamodule=data, verbose=False)
    trainer.predict(recorder, datamodule=data)
    assert_saw(recorder.seen["val"], "val", 0, 13)
    assert_saw(recorder.seen["test"], "test", 0, 7)
    assert_saw(recorder.seen["predict"], "test", 0, 7)


def resumed(path: Path, loading: Loading, max_steps: int) -> Recorder:
    recorder = Recorder()
    make_trainer(max_steps).fit(recorder, datamodule=make_data(loading=loading), ckpt_path=path, weights_only=True)
    return recorder


@pytest.mark.parametrize("loading", PATHS, ids=str)
def test_a_resumed_fit_goes_on_with_the_next_task(tmp_path: Path, loading: Loading) -> None:
    first, trainer = Recorder(), make_trainer(max_steps=3)
    trainer.fit(first, datamodule=make_data(loading=loading))
    trainer.save_checkpoint(tmp_path / "after_3.ckpt")
    assert_saw(first.seen["train"], "train", 0, 24)
    assert_saw(resumed(tmp_path / "after_3.ckpt", loading, 6).seen["train"], "train", 24, 48)


@pytest.mark.parametrize("moment", ["a batch", "a validation"])
def test_a_checkpoint_on_the_way_goes_on_with_its_next_task(tmp_path: Path, moment: str) -> None:
    every: dict[str, Any] = {"every_n_train_steps": 3} if moment == "a batch" else {"save_on_train_epoch_end": False}
    checkpoint = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", **every)
    make_trainer(5, checkpoint).fit(Recorder(), datamodule=make_data(loading=Loading("cpu", 2)))
    step = 3 if moment == "a batch" else 2
    recorder = resumed(tmp_path / f"step={step}.ckpt", Loading("device"), 7)
    assert_saw(recorder.seen["train"], "train", 8 * step, 56)


def test_a_failed_batch_is_trained_on_after_the_resume(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, save_last=False, save_on_exception=True, every_n_train_steps=100)
    first = Recorder(fail_at=3)
    with pytest.raises(ConnectionError):
        make_trainer(6, checkpoint).fit(first, datamodule=make_data())
    (path,) = tmp_path.glob("*.ckpt")
    assert_saw(first.seen["train"] + resumed(path, Loading("device"), 6).seen["train"], "train", 0, 48)


@pytest.mark.parametrize("loading", [Loading("device"), Loading("cpu", 2)], ids=str)
def test_epochs_go_on_through_the_stream(loading: Loading) -> None:
    recorder = Recorder()
    make_trainer(6, limit_train_batches=2).fit(recorder, datamodule=make_data(loading=loading))
    assert_saw(recorder.seen["train"], "train", 0, 48)


def test_an_epoch_after_a_resume_goes_on_through_the_stream(tmp_path: Path) -> None:
    for stop in (2, 3, 4):
        first, trainer = Recorder(), make_trainer(stop, limit_train_batches=2)
        trainer.fit(first, datamodule=make_data())
        trainer.save_checkpoint(tmp_path / "stopped.ckpt")
        second = Recorder()
        again = make_trainer(7, limit_train_batches=2)
        again.fit(second, datamodule=make_data(), ckpt_path=tmp_path / "stopped.ckpt", weights_only=True)
        assert_saw(first.seen["train"] + second.seen["train"], "train", 0, 56)


def test_overfitting_sees_the_same_batches_in_every_epoch() -> None:
    recorder = Recorder()
    make_trainer(6, overfit_batches=2).fit(recorder, datamodule=make_data())
    for epoch in range(3):
        assert_saw(recorder.seen["train"][2 * epoch : 2 * epoch + 2], "train", 0, 16)


@pytest.mark.parametrize("loading", [Loading("device"), Loading("cpu")], ids=str)
def test_images_have_the_trainers_precision(loading: Loading) -> None:
    recorder = Recorder()
    make_trainer(1, precision="64-true").fit(recorder, datamodule=make_data(loading=loading))
    (episode,) = recorder.seen["train"]
    assert episode.task.x.dtype == episode.query_x.dtype == torch.float64
    assert episode.task.y.dtype == torch.int64
    assert torch.equal(episode.query_x.float(), make_data().episode("train", torch.arange(8)).query_x)


def test_a_second_fit_starts_anew() -> None:
    data: NumberedImages = make_data()
    for _ in range(2):
        recorder = Recorder()
        make_trainer(max_steps=2).fit(recorder, datamodule=data)
        assert_saw(recorder.seen["train"], "train", 0, 16)
