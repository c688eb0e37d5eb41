"""The outer loop's schedules against torch's own, its optimisers, and what it refuses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, StepLR

from modules import OuterLoop

N_STEPS = 20
SCHEDULES: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "constant": lambda optimizer: ConstantLR(optimizer, factor=1),
    "linear": lambda optimizer: LinearLR(optimizer, 1, 0, N_STEPS),
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, N_STEPS),
    "step": lambda optimizer: StepLR(optimizer, 6, 0.3),
}


def step_sizes(optimizer: Optimizer, schedule: LRScheduler) -> list[float]:
    sizes = []
    for _ in range(N_STEPS + 1):
        sizes.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return sizes


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_torchs(name: Any) -> None:
    outer, params = OuterLoop(lr=0.2, schedule=name, step_size=6, gamma=0.3), [nn.Parameter(torch.zeros(1))]
    ours, theirs = outer.make_optimizer(params), SGD(params, lr=0.2)
    expected = step_sizes(theirs, SCHEDULES[name](theirs))
    assert step_sizes(ours, outer.make_schedule(ours, N_STEPS)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_to_the_last_step_needs_one(schedule: Any) -> None:
    outer = OuterLoop(schedule=schedule)
    with pytest.raises(ValueError, match=r"set trainer\.max_steps"):
        outer.make_schedule(outer.make_optimizer([nn.Parameter(torch.zeros(1))]), -1)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_an_optimiser_is_torchs(name: Any) -> None:
    ours, theirs = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizers = [
        OuterLoop(optimizer=name, lr=0.1).make_optimizer([ours]),
        {"adam": Adam, "sgd": SGD}[name]([theirs], 0.1),
    ]
    for params, optimizer in zip((ours, theirs), optimizers, strict=True):
        for _ in range(3):
            optimizer.zero_grad()
            (params**3).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["lr", "step_size", "clip_norm", "clip_value", "accumulate_batches", "task_chunk"])
@pytest.mark.parametrize("value", [0, -1])
def test_what_must_be_positive_is_refused_with_its_name_and_value(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"outer\.{name} must be positive, got {value}\."):
        OuterLoop(**{name: value})  # type: ignore[arg-type]
