"""A step that float16's loss scale leaves out moves nothing, and a training that takes none ends."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.amp.grad_scaler import GradScaler

from datamodules.episode import Episode
from modules import MAMLPlusPlus
from modules.learner.finite_check import NotFiniteError
from modules.learner.loss_scale import has_collapsed
from tests.every_learner import make_small
from tests.learnable_images import make_data
from tests.rank_group import RankGroup
from tests.training_runs import make_learner, make_trainer, same, state_of


def float16(scale: float) -> tuple[GradScaler, dict[str, Any]]:
    scaler = GradScaler("cpu", init_scale=scale)
    return scaler, {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}


def with_wrong_gradients(learner: Any, steps: range) -> Any:
    """A learner whose outer gradient is NaN at some calls, though its loss is finite."""
    gradient_of, calls = learner.batch_gradient, iter(range(10_000))

    def wrong(episode: Episode) -> Any:
        gradient = gradient_of(episode)
        if next(calls) in steps:
            gradient = gradient._replace(gradients={n: v * torch.nan for n, v in gradient.gradients.items()})
        return gradient

    learner.batch_gradient = wrong
    return learner


class Watch(pl.Callback):
    """What there is after every step: weights and buffers, the schedule's place, the training's metrics."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, int, dict[str, Any], int]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        schedule: Any = trainer.lr_scheduler_configs[0].scheduler
        self.seen.append((state_of(module), schedule.last_epoch, dict(module.train_metrics), module.outer_step))


@pytest.mark.parametrize("method", ["maml", "reptile", "protonet"])
def test_a_step_that_is_left_out_moves_nothing(method: str) -> None:
    _, settings = float16(2.0**10)
    learner, watch = with_wrong_gradients(make_learner(method, seed=1), range(1, 3)), Watch()
    make_trainer(watch, max_steps=4, val_check_interval=10, **settings).fit(learner, datamodule=make_data())
    first, second, third, last = watch.seen
    assert same(first[0], second[0])
    assert same(first[0], third[0])
    assert not same(first[0], last[0])
    assert [seen[1] for seen in watch.seen] == [1, 1, 1, 2]
    assert [seen[3] for seen in watch.seen] == [1, 1, 1, 2]
    assert first[2] == third[2]
    assert first[2] != last[2]


def test_steps_left_out_are_remembered_by_a_checkpoint(tmp_path: Path) -> None:
    _, settings = float16(2.0**10)
    learner = with_wrong_gradients(make_small(MAMLPlusPlus, seed=1).float(), range(2))
    trainer = make_trainer(max_steps=3, val_check_interval=10, **settings)
    trainer.fit(learner, datamodule=make_data())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, watch = make_small(MAMLPlusPlus, seed=2).float(), Watch()
    trainer = make_trainer(watch, max_steps=4, val_check_interval=10, **float16(1.0)[1])
    trainer.fit(resumed, datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert trainer.global_step == 4
    assert watch.seen[0][3] == 2


def train_without_any_step() -> tuple[str, Any, int]:
    scaler, settings = float16(4.0)
    learner = with_wrong_gradients(make_learner("protonet", seed=1), range(10_000))
    before = state_of(learner)
    trainer = make_trainer(max_steps=50, val_check_interval=100, **settings)
    with pytest.raises(NotFiniteError) as raised:
        trainer.fit(learner, datamodule=make_data())
    assert scaler.get_scale() == 0.5
    return str(raised.value), same(before, state_of(learner)), trainer.global_step


def test_a_training_that_takes_no_step_ends_in_one_line() -> None:
    said, is_same, step = train_without_any_step()
    assert "not finite at step 3 (training tasks 16 to 23" in said
    assert "loss scale has fallen to 1" in said
    assert "\n" not in said
    assert is_same
    assert step == 3


def test_both_ranks_end_together(rank_pair: RankGroup) -> None:
    first, second = rank_pair(train_without_any_step)
    assert (first[0], first[2]) == (second[0], second[2])
    assert "training tasks 16 to 23" in first[0]


@pytest.mark.parametrize(("scale", "collapsed"), [(2.0, False), (1.0, True), (0.5, True)])
def test_a_scale_of_one_is_the_end(scale: float, collapsed: bool) -> None:
    """As a scaler reports it after it has left a step out and halved its scale."""
    scaler = GradScaler("cpu", init_scale=scale)
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scaler.scale(parameter * torch.inf).backward()
    scaler.step(optimizer)
    scaler.update()
    assert has_collapsed(scaler) is collapsed
