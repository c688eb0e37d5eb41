"""Every learner that `modules` exports, small, and tasks for it: a new method is found here by itself.

What the general rules do not give stands in tests/learner_exceptions.py.
"""

import dataclasses
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import modules
from datamodules import Sinusoid
from datamodules.episode import Episode, Task
from datamodules.episode_data import EpisodeDataModule
from datamodules.objective import OBJECTIVES
from datamodules.settings import Evaluation
from modules import MLP, Learner, OuterLoop
from tests.learnable_images import TwoBlocks, make_data, make_episode
from tests.learner_exceptions import exceptions_of

N_WAY, STEPS, LARGEST = 3, 2, 4


def learners_of(module: ModuleType) -> list[type[Learner]]:
    """Every learner that a module exports."""
    exported = [getattr(module, name) for name in module.__all__]
    return [v for v in exported if isinstance(v, type) and issubclass(v, Learner) and v is not Learner]


LEARNERS = learners_of(modules)
OF_IMAGES = [kind for kind in LEARNERS if "classification" in kind.objectives]
OF_FUNCTIONS = [kind for kind in LEARNERS if "regression" in kind.objectives]


def every(kinds: list[type[Learner]] = LEARNERS) -> pytest.MarkDecorator:
    """Gives a test each of the learners as `kind`."""
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.__name__)


def leave_out(kind: type[Learner], request: pytest.FixtureRequest) -> None:
    """Skips a test that does not hold for a learner, with the reason."""
    name = request.node.originalname
    if name in exceptions_of(kind).left_out:
        pytest.skip(exceptions_of(kind).left_out[name])


def make_small(kind: Callable[..., Learner], running_stats: bool = True, seed: int = 0, **changes: Any) -> Learner:
    """A small learner of images, in double precision and in evaluation.

    Args:
        kind: Its class.
        running_stats: Whether its backbone keeps running statistics.
        seed: Of the weights.
        **changes: Arguments; "outer" may be those of the outer loop, in place of the class's own.
    """
    parameters = inspect.signature(kind).parameters
    arguments = {name: small_value(name, parameter.default) for name, parameter in parameters.items()}
    arguments |= {"n_way": N_WAY} if "n_way" in parameters else {}
    settings = exceptions_of(kind).settings  # type: ignore[arg-type]
    outer = dict[str, Any](settings.get("outer", {})) | changes.pop("outer", {})
    arguments |= settings | {"outer": dataclasses.replace(own_outer(kind), **outer)}
    torch.manual_seed(seed)
    arguments["backbone"] = TwoBlocks(running_stats)
    return kind(**(arguments | changes)).double().eval()


def make_small_of_functions(
    kind: Callable[..., Learner], running_stats: bool = True, seed: int = 0, **changes: Any
) -> Learner:
    """A small learner of sine waves, in double precision and in evaluation; arguments as in `make_small`."""
    torch.manual_seed(seed)
    backbone = MLP([1], [8], batch_norm=True, running_stats=running_stats)
    arguments: dict[str, Any] = {"backbone": backbone, "n_way": 1}
    return make_small(kind, seed=seed, **(arguments | changes))


def small_value(name: str, default: Any) -> Any:
    """An argument's value by the general rules: few steps, few of everything, and nothing that torch's generators draw.

    Args:
        name: The argument's.
        default: Its default.
    """
    if isinstance(default, int) and not isinstance(default, bool):
        few = STEPS if name.endswith("steps") else LARGEST
        return STEPS if name.endswith("inner_steps") else min(default, few)
    return 0.0 if name in ("dropout", "drop_rate") else default


def own_outer(kind: Callable[..., Learner]) -> OuterLoop:
    """The outer loop that a learner has where none is given."""
    outer: OuterLoop = inspect.signature(kind).parameters["outer"].default
    return outer


def data_of(objective: str, **changes: Any) -> EpisodeDataModule:
    """Data of an objective that a small learner takes."""
    if objective == "classification":
        return make_data(**changes)
    evaluation = Evaluation(n_val_tasks=5, n_test_tasks=37, batch_size=8)
    arguments: dict[str, Any] = {"k_shot": 6, "n_query": 5, "meta_batch_size": 8, "evaluation": evaluation}
    return Sinusoid(**(arguments | changes))


def make_suited(kind: type[Learner], running_stats: bool = True, **changes: Any) -> tuple[Learner, EpisodeDataModule]:
    """A small learner and data of its first objective, each anew."""
    objective = kind.objectives[0]
    if objective == "classification":
        learner = make_small(kind, running_stats, **changes)
    else:
        learner = make_small_of_functions(kind, running_stats, **changes)
    learner.objective = OBJECTIVES[objective]
    return learner, data_of(objective)


def episode_of(data: EpisodeDataModule, n_tasks: int, split: str = "train") -> Episode:
    """The first tasks of a split, in double precision."""
    data.setup("test" if split == "test" else "fit")
    return data.episode(split, torch.arange(n_tasks)).map(lambda x: x.double() if x.is_floating_point() else x)


def support_and_queries() -> tuple[Task, Tensor]:
    """One task of unequal shots, 3, 1 and 2; and twelve queries."""
    episode = make_episode(1, k_shot=3, n_query=4)
    chosen = torch.tensor([0, 1, 2, 3, 6, 7])
    assert episode.task.y[0, chosen].tolist() == [0, 0, 0, 1, 2, 2]
    return Task.of(episode.task.x[:, chosen], episode.task.y[:, chosen], N_WAY), episode.query_x
