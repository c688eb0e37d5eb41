"""Every learner that `modules` exports, small, and a task for them: a new method is found here by itself."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import modules
from datamodules.episode import Task
from modules import Learner
from tests.learnable_images import TwoBlocks, make_episode

N_WAY = 3
LEARNERS = [
    value
    for value in vars(modules).values()
    if isinstance(value, type) and issubclass(value, Learner) and value is not Learner
]


def make_small(kind: Callable[..., Learner], running_stats: bool) -> Learner:
    """A learner with its defaults on a small network, in double precision."""
    torch.manual_seed(0)
    backbone = TwoBlocks(running_stats)
    named: dict[str, Any] = {"backbone": backbone} | (
        {"n_way": N_WAY} if "n_way" in kind.__init__.__annotations__ else {}
    )
    return kind(**named).double().eval()


def support_and_queries() -> tuple[Task, Tensor]:
    """One task of unequal shots, 3, 1 and 2; and twelve queries."""
    episode = make_episode(1, k_shot=3, n_query=4)
    chosen = torch.tensor([0, 1, 2, 3, 6, 7])
    assert episode.task.y[0, chosen].tolist() == [0, 0, 0, 1, 2, 2]
    return Task.of(episode.task.x[:, chosen], episode.task.y[:, chosen], N_WAY), episode.query_x
