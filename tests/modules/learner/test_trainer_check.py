"""Trainers that a learner refuses, in one line and before anything is read; the hardware is not needed for it."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator, XLAAccelerator
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    SingleDeviceXLAStrategy,
    Strategy,
    XLAStrategy,
)
from torch.utils.data import DataLoader

from modules import MAML, OuterLoop, ProtoNet
from modules.learner.trainer_check import check_strategy
from tests.learnable_images import LearnableImages, make_data
from tests.plain_trainer import plain_trainer
from tests.training_runs import make_learner


def without_hardware(kind: Any) -> Any:
    """An object of a class whose constructor asks for what is not installed here."""
    return kind.__new__(kind)


@pytest.mark.parametrize(
    "kind", [FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy, XLAStrategy, SingleDeviceXLAStrategy]
)
def test_strategies_for_whole_learners_alone_are_taken(kind: type[Strategy]) -> None:
    with pytest.raises(
        ValueError, match=rf"strategy={kind.__name__}\) is not supported.*set strategy='ddp'"
    ) as refused:
        check_strategy(without_hardware(kind), CUDAAccelerator())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", [MPSAccelerator, XLAAccelerator])
def test_devices_without_what_is_needed_are_refused(kind: type[Any]) -> None:
    with pytest.raises(ValueError, match=rf"accelerator={kind.__name__}\) is not supported.*accelerator='cpu'"):
        check_strategy(SingleDeviceStrategy("cpu"), without_hardware(kind))


def test_the_usual_ones_are_taken() -> None:
    check_strategy(SingleDeviceStrategy("cpu"), CPUAccelerator())
    check_strategy(DDPStrategy(), CUDAAccelerator())
    check_strategy(DDPStrategy(find_unused_parameters=True), CPUAccelerator())


class Unread(LearnableImages):
    """Data that nothing may touch yet."""

    def prepare_data(self) -> None:
        raise AssertionError("read too early")

    def setup(self, stage: str) -> None:
        raise AssertionError("read too early")


@pytest.mark.parametrize("asked", ["fit", "validate", "test", "predict"])
def test_a_trainer_is_refused_before_anything_is_read(asked: str) -> None:
    trainer, environment = plain_trainer(max_steps=1), LightningEnvironment()
    strategy = FSDPStrategy(accelerator=CPUAccelerator(), cluster_environment=environment)
    strategy.parallel_devices = [torch.device("cpu")]
    trainer._accelerator_connector.strategy = strategy
    with pytest.raises(ValueError, match=r"strategy=FSDPStrategy\) is not supported"):
        getattr(trainer, asked)(ProtoNet(), datamodule=Unread())


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"accumulate_grad_batches": 2}, r"OuterLoop\(accumulate_batches=2\)"),
        ({"gradient_clip_val": 0.5}, r"OuterLoop\(clip_norm=0.5\)"),
        ({"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"}, r"OuterLoop\(clip_value=0.5\)"),
    ],
)
def test_lightnings_own_accumulation_and_clipping_name_ours(option: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        plain_trainer(max_steps=1, **option).fit(ProtoNet(), datamodule=Unread())


def test_ours_are_taken() -> None:
    learner = make_learner("maml", 1, accumulate_batches=2, clip_norm=0.5)
    assert isinstance(learner, MAML)
    assert learner.outer == OuterLoop(accumulate_batches=2, clip_norm=0.5)
    trainer = plain_trainer(max_steps=2)
    trainer.fit(learner, datamodule=make_data())
    assert (trainer.global_step, trainer.fit_loop.total_batch_idx) == (2, 3)


def test_loaders_of_task_numbers_are_refused_in_one_line() -> None:
    """The data module's own hook makes episodes of them."""
    data = make_data()
    data.setup("fit")
    with pytest.raises(ValueError, match="got Tensor: give the Trainer the data module itself"):
        plain_trainer(max_steps=1).fit(make_learner("maml", 1), data.train_dataloader())


def test_a_loader_of_episodes_is_taken() -> None:
    data = make_data()
    data.setup("fit")
    episode = data.episode("train", torch.arange(4))
    trainer: pl.Trainer = plain_trainer(max_steps=2)
    batches: Any = [episode, episode]
    trainer.fit(make_learner("maml", 1), DataLoader(batches, batch_size=None))
    assert trainer.global_step == 2
