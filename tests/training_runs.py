"""Short training runs of a few methods, in one process or as one of two ranks; tests/every_learner.py has them all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor

from modules import MAML, Learner, OuterLoop, ProtoNet, Reptile
from tests.learnable_images import TwoBlocks

State = dict[str, Tensor]


def maml(first_order: bool = False, **outer: Any) -> MAML:
    return MAML(3, TwoBlocks(running_stats=True), 0.1, 2, first_order=first_order, outer=OuterLoop(**outer))


def fomaml(**outer: Any) -> MAML:
    return maml(first_order=True, **outer)


def reptile(**outer: Any) -> Reptile:
    backbone = TwoBlocks(running_stats=True)
    loop = OuterLoop(**(dict[str, Any](optimizer="sgd", lr=1.0, schedule="linear") | outer))
    return Reptile(3, backbone, inner_lr=0.01, inner_steps=3, inner_batch_size=4, eval_inner_steps=3, outer=loop)


def protonet(**outer: Any) -> ProtoNet:
    return ProtoNet(TwoBlocks(running_stats=True), OuterLoop(**(dict[str, Any](schedule="step", step_size=3) | outer)))


METHODS: dict[str, Callable[..., Learner]] = {"maml": maml, "reptile": reptile, "protonet": protonet}


def rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))


def make_learner(method: str, seed: int, **outer: Any) -> Learner:
    """Rank 1 begins with other weights than rank 0, which are to be replaced by rank 0's."""
    torch.manual_seed(seed + 1000 * rank())
    return (METHODS | {"fomaml": fomaml})[method](**outer)


def make_trainer(*callbacks: pl.Callback, **changes: Any) -> pl.Trainer:
    """A Trainer that prints nothing; over its ranks in a process of a RankGroup."""
    settings: dict[str, Any] = {"accelerator": "cpu", "max_steps": 6, "max_epochs": -1, "val_check_interval": 3}
    if "LOCAL_RANK" in os.environ:
        strategy = DDPStrategy(process_group_backend="gloo", cluster_environment=LightningEnvironment())
        settings |= {"strategy": strategy, "devices": int(os.environ["TEST_RANKS"])}
    return pl.Trainer(
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(c, pl.callbacks.ModelCheckpoint) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,
        logger=False,
        check_val_every_n_epoch=None,
        **(settings | changes),
    )


def state_of(learner: Learner) -> State:
    """A copy of the weights and buffers."""
    return {name: value.clone() for name, value in learner.state_dict().items()}


def largest_difference(a: State, b: State) -> float:
    """The largest difference between two runs' weights or buffers, relative to a tensor's largest entry."""
    assert a.keys() == b.keys()
    return max(float((a[n] - b[n]).abs().max() / b[n].abs().max().clamp(min=1e-3)) for n in a)


def same(a: State, b: State) -> bool:
    """Whether two runs' weights and buffers are bitwise equal."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def checkpoints(folder: Path) -> list[pl.Callback]:
    """Saves after every fourth outer step, and at every validation."""
    by_step = pl.callbacks.ModelCheckpoint(folder, "after-{step}", save_top_k=-1, every_n_train_steps=4)
    at_validation = pl.callbacks.ModelCheckpoint(
        folder, "validated-{step}", monitor="val/loss", save_top_k=-1, save_on_train_epoch_end=False
    )
    return [by_step, at_validation]
