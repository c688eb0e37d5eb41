"""Reductions over processes: Lightning's values, without Lightning's barriers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.strategies import DDPStrategy

from app.process.signals import StopSignals
from app.runs.interruption import Interruption
from app.runs.time_limit import TimeLimit, with_time_limit
from modules.learner.outer_gradient import OuterGradient
from modules.learner.ranks import reduced
from tests.learnable_images import make_data
from tests.rank_group import RankGroup
from tests.training_runs import State, make_learner, make_trainer, rank, same, state_of


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Counts what processes say to each other, in the order in which the host waits for it."""
    calls = {"barrier": 0, "all_reduce": 0, "broadcast_object_list": 0, "all_gather_object": 0, "monitored_barrier": 0}

    def counting(name: str) -> Any:
        real = getattr(torch.distributed, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return real(*args, **kwargs)

        return mock.patch.object(torch.distributed, name, call)

    patches = [counting(name) for name in calls]
    for patch in patches:
        patch.start()
    try:
        yield calls
    finally:
        for patch in patches:
            patch.stop()


def train_and_count(n_steps: int) -> dict[str, int]:
    callbacks = (Interruption(StopSignals(), str), TimeLimit(duration={"hours": 1}))
    trainer = make_trainer(*callbacks, max_steps=n_steps, val_check_interval=1000)
    with counted() as calls:
        trainer.fit(make_learner("maml", seed=1), datamodule=make_data())
    return calls


def test_an_outer_step_has_one_reduction_and_no_barrier(rank_pair: RankGroup) -> None:
    few, many = rank_pair(train_and_count, 2), rank_pair(train_and_count, 42)
    for less, more in zip(few, many, strict=True):
        growth = {name: more[name] - less[name] for name in more}
        assert 40 <= growth.pop("all_reduce") <= 120  # a slow machine asks for signals and for the time after each step
        assert set(growth.values()) == {0}


def steps_until_the_time_is_over() -> int:
    """On one rank alone."""
    trainer = make_trainer(TimeLimit(duration={"seconds": 1 if rank() else 3600}), max_steps=100_000)
    trainer.fit(make_learner("protonet", seed=1), datamodule=make_data())
    return trainer.global_step


def test_all_ranks_stop_after_the_same_step_when_the_time_is_over(rank_pair: RankGroup) -> None:
    first, second = rank_pair(steps_until_the_time_is_over)
    assert 0 < first == second < 100_000


def test_the_time_limit_takes_the_place_of_lightnings() -> None:
    trainer: Any = pl.Trainer(max_time="00:00:01:30", accelerator="cpu", logger=False, enable_checkpointing=False)
    (timer,) = [c for c in with_time_limit(trainer.callbacks, "00:00:01:30") if isinstance(c, Timer)]
    assert isinstance(timer, TimeLimit)
    assert timer.state_key == Timer().state_key
    assert timer.time_remaining() == 90


def train(by_lightning: bool) -> State:
    learner, trainer = make_learner("maml", seed=1), make_trainer(max_steps=6)

    def lightnings(values: torch.Tensor, strategy: DDPStrategy, by: str) -> torch.Tensor:
        return strategy.reduce(values, reduce_op=by)

    with mock.patch("modules.learner.outer_gradient.reduced", lightnings if by_lightning else reduced):
        trainer.fit(learner, datamodule=make_data())
    return state_of(learner)


def test_the_weights_are_those_of_lightnings_reduction(rank_pair: RankGroup) -> None:
    for ours, lightnings in zip(rank_pair(train, False), rank_pair(train, True), strict=True):
        assert same(ours, lightnings)


def reduce_all() -> dict[str, list[float]]:
    values = torch.tensor([1.0, 5.0]) * (1 + rank())
    return {by: reduced(values.clone(), DDPStrategy(), by).tolist() for by in ("sum", "mean", "max")}


def test_values_are_reduced(rank_pair: RankGroup) -> None:
    expected = {"sum": [3.0, 15.0], "mean": [1.5, 7.5], "max": [2.0, 10.0]}
    assert rank_pair(reduce_all) == [expected, expected]


def mean_of_gradients() -> OuterGradient:
    """Of several precisions, as under "bf16-true"."""
    value = float(1 + rank())
    gradient = OuterGradient(
        {"w": torch.full((2,), value, dtype=torch.bfloat16)},
        {"seen": torch.tensor(7), "mean": torch.full((3,), value)},
        {"loss": torch.tensor(value, dtype=torch.float64)},
    )
    return gradient.mean_over_ranks(DDPStrategy())


@pytest.mark.parametrize("number", [0, 1])
def test_every_value_of_a_gradient_is_reduced_in_its_own_precision(rank_pair: RankGroup, number: int) -> None:
    gradients, buffers, metrics = rank_pair(mean_of_gradients)[number]
    assert gradients["w"].dtype is torch.bfloat16
    assert gradients["w"].tolist() == [1.5, 1.5]
    assert buffers["mean"].tolist() == [1.5] * 3
    assert int(buffers["seen"]) == 7
    assert metrics["loss"].dtype is torch.float64
    assert float(metrics["loss"]) == 1.5
