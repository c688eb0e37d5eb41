"""Who takes part in the outer step: each of our strategies, and other libraries."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import get_args, get_type_hints

import torch

from benchmarks.cases import Case, Gradients, Step
from benchmarks.peers import learn2learn_maml, parallel_metalearn_maml
from modules import OuterLoop
from modules.learner.cuda_graph import GraphedGradient

OURS = "quickstudy "
AUTO = OURS + "auto"
GRAPH = " graph"
REFERENCE = learn2learn_maml.NAME

PEER_TASKS = 32  # learn2learn goes task by task, so more tasks take longer in proportion and need not be timed


@dataclass(frozen=True)
class Contestant:
    """A way of computing the outer step.

    Args:
        name: As the tables have it.
        make: (case, T, device, task_chunk) -> its step.
        chunks: Whether it can take `task_chunk` tasks at a time, where all of them do not fit the memory.
        most_tasks: Above so many tasks it is timed on these alone, its time being proportional to them.
    """

    name: str
    make: Callable[[Case, int, torch.device, int | None], Step]
    chunks: bool = True
    most_tasks: int | None = None


def contestants(device: torch.device) -> list[Contestant]:
    """All of them; the libraries and what our users get come first, where the time may not suffice for all."""
    ours = [Contestant(OURS + strategy, partial(our_step, strategy)) for strategy in strategies()]
    if device.type == "cuda":
        graphed = [strategy for strategy in strategies() if strategy not in ("loop", "learn2learn")]
        ours += [Contestant(f"{OURS}{s}{GRAPH}", partial(our_step, s, cuda_graph=True)) for s in graphed]
    reference = Contestant(REFERENCE, _whole(learn2learn_maml.make_step), chunks=False, most_tasks=PEER_TASKS)
    auto, *others = ours
    return [reference, auto, Contestant(parallel_metalearn_maml.NAME, parallel_metalearn_maml.make_step), *others]


def strategies() -> list[str]:
    """The values of `outer.task_strategy`, "auto" first."""
    return sorted(get_args(get_type_hints(OuterLoop)["task_strategy"]), key=lambda strategy: strategy != "auto")


def our_step(
    strategy: str,
    case: Case,
    n_tasks: int,
    device: torch.device,
    task_chunk: int | None = None,
    cuda_graph: bool = False,
) -> Step:
    """Our outer step with a strategy; as a CUDA graph, it is what training with `outer.cuda_graph` does."""
    learner, episode = case.learner(strategy, device, task_chunk), case.episode(n_tasks, device)
    gradient_of = GraphedGradient(learner.batch_gradient) if cuda_graph else learner.batch_gradient
    parameters = dict(learner.network.named_parameters())

    def step() -> Gradients:
        gradients = gradient_of(episode).gradients
        for name, parameter in parameters.items():
            parameter.grad = gradients[f"network.{name}"]
        return {name: gradients[f"network.{name}"] for name in parameters}

    return Step(step, learner)


def _whole(make: Callable[[Case, int, torch.device], Step]) -> Callable[[Case, int, torch.device, int | None], Step]:
    return lambda case, n_tasks, device, task_chunk: make(case, n_tasks, device)
