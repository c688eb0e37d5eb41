"""The outer loop's settings, the same for every learner."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from modules.learner.settings import check_positive

ENDLESS_SCHEDULES = ("constant", "step")  # whose step sizes do not depend on how many steps there are


@dataclass(frozen=True)
class OuterLoop:
    """How meta-parameters are updated from the outer gradient, and how its computation is laid out.

    Args:
        optimizer: "adam", or "sgd" (plain: Reptile's meta-step).
        lr: Step size; for Reptile's "sgd" the meta-step size epsilon.
        weight_decay: Decoupled for "adam" (AdamW), an L2 term for "sgd".
        schedule: "constant"; "linear" or "cosine" to 0 at the last step; "step": times `gamma` every `step_size` outer
            steps.
        step_size: Outer steps between decays of the "step" schedule.
        gamma: Factor of the "step" schedule.
        clip_norm: Bound on the gradient's norm; None: none.
        clip_value: Bound on each component of the gradient; None: none.
        accumulate_batches: Batches whose gradients are averaged for one outer step; all that counts steps counts these.
        task_chunk: Tasks computed at once; bounds the memory and changes no result, but what dropout draws where a
            network has it. None: all of a batch on a GPU, as many as work well together on a CPU; halved where memory
            runs out.
        task_strategy: How tasks with different weights are computed: "batched" all at once by hand-written forms of the
            usual layers, "vmap" all at once by torch.func, "loop" one by one, "learn2learn" by that library (MAML
            only); "auto" is "batched" for networks of those layers.
        cuda_graph: On a GPU, record the computation of the outer gradient once and replay it.
    """

    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine", "step"] = "constant"
    step_size: int = 2000
    gamma: float = 0.5
    clip_norm: float | None = None
    clip_value: float | None = None
    accumulate_batches: int = 1
    task_chunk: int | None = None
    task_strategy: Literal["auto", "batched", "vmap", "loop", "learn2learn"] = "auto"
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        names = ("lr", "step_size", "clip_norm", "clip_value", "accumulate_batches", "task_chunk")
        check_positive(**{f"outer.{name}": getattr(self, name) for name in names})

    def make_optimizer(self, params: Iterable[nn.Parameter]) -> Optimizer:
        """The optimiser of the meta-parameters."""
        if self.optimizer == "adam":
            return torch.optim.AdamW(params, lr=self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(params, lr=self.lr, weight_decay=self.weight_decay)

    def make_schedule(self, optimizer: Optimizer, total_steps: int) -> LambdaLR:
        """The step size's schedule, advanced once for each outer step.

        Raises:
            ValueError: If the schedule ends at the last step and there is none.
        """
        if self.schedule in ("linear", "cosine") and total_steps < 1:
            raise ValueError(f"schedule {self.schedule!r} ends at the last outer step: set trainer.max_steps.")
        return LambdaLR(optimizer, lambda step: self.lr_factor(step, total_steps))

    def lr_factor(self, step: int, total_steps: int) -> float:
        """Returns what the step size is multiplied by at an outer step, counted from 0."""
        match self.schedule:
            case "linear":
                return max(0.0, 1 - step / total_steps)
            case "cosine":
                return (1 + math.cos(math.pi * min(step / total_steps, 1.0))) / 2
            case "step":
                return self.gamma ** (step // self.step_size)
        return 1.0


# Checkpoints hold a learner's arguments and are loaded with weights_only=True.
# Checkpoints name a class by either path.
torch.serialization.add_safe_globals([OuterLoop, (OuterLoop, "modules.outer_loop.OuterLoop")])
