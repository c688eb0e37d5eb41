"""Short training runs of every method, in one process or as one of two ranks."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor

from modules import (
    ANIL,
    BOIL,
    ESMAML,
    IMAML,
    LEO,
    MAML,
    FromScratch,
    Learner,
    MAMLPlusPlus,
    MetaSGD,
    OuterLoop,
    ProtoNet,
    Reptile,
)
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


def kin_of_maml(kind: type[MAML]) -> Callable[..., MAML]:
    return lambda **outer: kind(3, TwoBlocks(running_stats=True), 0.1, 2, outer=OuterLoop(**outer))


def meta_sgd(**outer: Any) -> MetaSGD:
    return MetaSGD(3, TwoBlocks(running_stats=True), 0.05, 0.1, 2, outer=OuterLoop(**outer))


def maml_plus_plus(**outer: Any) -> MAMLPlusPlus:
    """All that changes in the course of training changes within six steps."""
    loop = OuterLoop(**(dict[str, Any](schedule="cosine") | outer))
    backbone = TwoBlocks(running_stats=True)
    return MAMLPlusPlus(3, backbone, 0.1, 2, multi_step_loss_steps=5, first_order_steps=2, outer=loop)


def imaml(**outer: Any) -> IMAML:
    return IMAML(3, TwoBlocks(running_stats=True), 0.05, 3, regularisation=10.0, outer=OuterLoop(**outer))


def es_maml(**outer: Any) -> ESMAML:
    backbone = TwoBlocks(running_stats=True, filters=2)
    return ESMAML(3, backbone, directions=2, inner_directions=2, outer=OuterLoop(**outer))


def leo(**outer: Any) -> LEO:
    """Without dropout, whose draws depend on the chunk."""
    return LEO(TwoBlocks(running_stats=True), 4, 2, finetuning_steps=2, dropout=0.0, outer=OuterLoop(**outer))


def from_scratch(**outer: Any) -> FromScratch:
    return FromScratch(3, TwoBlocks(running_stats=True), inner_steps=3, outer=OuterLoop(**outer))


# Those on which every way of computing is tried, and those built of the same parts, on which a few are.
METHODS: dict[str, Callable[..., Learner]] = {"maml": maml, "reptile": reptile, "protonet": protonet}
FURTHER_METHODS: dict[str, Callable[..., Learner]] = {
    "fomaml": fomaml,
    "anil": kin_of_maml(ANIL),
    "boil": kin_of_maml(BOIL),
    "meta_sgd": meta_sgd,
    "maml_plus_plus": maml_plus_plus,
    "imaml": imaml,
    "es_maml": es_maml,
    "leo": leo,
    "from_scratch": from_scratch,
}


def rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))


def make_learner(method: str, seed: int, **outer: Any) -> Learner:
    """Rank 1 begins with other weights than rank 0, which are to be replaced by rank 0's."""
    torch.manual_seed(seed + 1000 * rank())
    return (METHODS | FURTHER_METHODS)[method](**outer)


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
