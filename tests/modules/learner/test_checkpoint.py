"""What a learner's checkpoint carries."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from datamodules.settings import Evaluation
from modules import MAML, OuterLoop
from tests.learnable_images import TwoBlocks, make_data
from tests.training_runs import METHODS, make_learner, make_trainer, same, state_of


def save(folder: Path, method: str, meta_batch_size: int = 8, **outer: Any) -> tuple[Path, dict[str, Any]]:
    """A checkpoint after two outer steps, and its contents read without running any code in it."""
    learner, trainer = make_learner(method, seed=1, **outer), make_trainer(max_steps=2)
    trainer.fit(learner, datamodule=make_data(meta_batch_size=meta_batch_size))
    trainer.save_checkpoint(folder / "run.ckpt")
    contents = torch.load(folder / "run.ckpt", weights_only=True)
    assert same(contents["state_dict"], state_of(learner))
    return folder / "run.ckpt", contents


@pytest.mark.parametrize("method", METHODS)
def test_it_reads_without_running_code_and_carries_the_input_and_the_strategy(tmp_path: Path, method: str) -> None:
    _, contents = save(tmp_path, method)
    assert contents["input_spec"] == make_data().input_spec()
    assert contents["task_strategy"] == "batched"
    assert contents["hyper_parameters"]["outer"] == make_learner(method, seed=1).outer


def test_a_resumed_run_computes_tasks_the_way_that_auto_chose_before(tmp_path: Path) -> None:
    path, contents = save(tmp_path, "maml", meta_batch_size=4)
    assert contents["task_chunk"] == 4
    torch.save(contents | {"task_strategy": "loop"}, path)
    learner = make_learner("maml", seed=2)
    make_trainer(max_steps=3).fit(learner, datamodule=make_data(), ckpt_path=path, weights_only=True)
    assert learner.task_strategy == "loop"
    learner.trainer.save_checkpoint(path)
    assert torch.load(path, weights_only=True)["task_chunk"] == 4


def test_a_strategy_that_was_asked_for_is_carried_too(tmp_path: Path) -> None:
    assert save(tmp_path, "maml", task_strategy="learn2learn")[1]["task_strategy"] == "learn2learn"


def test_a_learner_loads_with_its_arguments(tmp_path: Path) -> None:
    path, contents = save(tmp_path, "maml", lr=0.002)
    learner = MAML.load_from_checkpoint(path, backbone=TwoBlocks(running_stats=True), weights_only=True)
    assert same(state_of(learner), contents["state_dict"])
    assert learner.outer == OuterLoop(lr=0.002)
    assert (learner.fixed_way, learner.inner_lr, learner.inner_steps) == (3, 0.1, 2)


class SaveAtOnce(pl.Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.path)


def test_a_checkpoint_from_before_the_first_episode_decides_nothing(tmp_path: Path) -> None:
    trainer = make_trainer(SaveAtOnce(tmp_path / "start.ckpt"), max_steps=1)
    trainer.fit(make_learner("maml", seed=1), datamodule=make_data())
    learner = make_learner("maml", seed=2)
    make_trainer(max_steps=1).fit(learner, datamodule=make_data(), ckpt_path=tmp_path / "start.ckpt", weights_only=True)
    assert (learner.task_strategy, learner.task_chunk) == ("batched", 8)


def test_training_and_testing_are_laid_out_for_their_own_batches() -> None:
    """Whatever an evaluation of fewer tasks was best computed by."""
    learner, data = make_learner("maml", seed=1), make_data(evaluation=Evaluation(n_val_tasks=1, n_test_tasks=8))
    trainer = make_trainer(max_steps=2)
    trainer.validate(learner, datamodule=data)
    assert learner.task_strategy == "loop"
    trainer.fit(learner, datamodule=data)
    assert (learner.task_strategy, learner.task_chunk) == ("batched", 8)
    trainer.test(learner, datamodule=data)
    assert learner._evaluation_chunks.size == 8


def test_a_chunk_that_was_halved_stays_so_in_a_resumed_run(tmp_path: Path) -> None:
    path, contents = save(tmp_path, "maml", task_chunk=8)
    torch.save(contents | {"task_chunk": 2}, path)
    learner = make_learner("maml", seed=2, task_chunk=8)
    make_trainer(max_steps=3).fit(learner, datamodule=make_data(), ckpt_path=path, weights_only=True)
    assert learner.task_chunk == 2


class WhereWeightsLie(pl.Callback):
    def __init__(self) -> None:
        self.places: set[tuple[int, ...]] = set()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.places.add(tuple(p.data_ptr() for p in pl_module.parameters()))


@pytest.mark.parametrize("resumed", [False, True])
def test_weights_stay_where_a_recorded_graph_reads_them(tmp_path: Path, resumed: bool) -> None:
    """Over two validations, in a fresh run and in one that goes on from a checkpoint."""
    path, _ = save(tmp_path, "maml")
    where = WhereWeightsLie()
    trainer = make_trainer(where, max_steps=7, val_check_interval=2)
    trainer.fit(
        make_learner("maml", seed=2), datamodule=make_data(), ckpt_path=path if resumed else None, weights_only=True
    )
    assert len(where.places) == 1
