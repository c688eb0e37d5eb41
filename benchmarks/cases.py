"""The MAML problems that are timed: network, tasks and inner loop, the same for every contestant."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.episode import Episode, Task
from modules import MAML, OuterLoop, ResNet12
from modules.backbones.backbone import Backbone
from modules.backbones.conv4 import Conv4

Gradients = dict[str, Tensor]  # by the name of the network's parameter


@dataclass(frozen=True)
class Step:
    """One outer step short of the optimiser's update, to be called again and again.

    Args:
        compute: Leaves the gradient in `grad` and returns it.
        learner: Ours, where it is our step: knows what "auto" chose.
    """

    compute: Callable[[], Gradients]
    learner: MAML | None = None

    def __call__(self) -> Gradients:
        """The outer gradient, a mean over the tasks."""
        return self.compute()


@dataclass(frozen=True)
class Case:
    """A second-order MAML step on one shape of tasks.

    Args:
        k_shot: Support images of a class.
        n_query: Query images of a class.
        inner_steps: Inner gradient steps.
        image_size: Side of the images in pixels.
        network: "conv4": greyscale, stride 2, 64 filters, mean over positions, as in the Omniglot configurations;
            "resnet12": colour.
        n_way: Classes of a task.
        dtype: Of images and weights.
    """

    k_shot: int
    n_query: int
    inner_steps: int
    image_size: int = 28
    network: str = "conv4"
    n_way: int = 5
    dtype: torch.dtype = torch.float32

    @property
    def name(self) -> str:
        """For example `5w1s 5 steps 1 query`; another network or size stands before it."""
        steps = "1 step" if self.inner_steps == 1 else f"{self.inner_steps} steps"
        queries = "1 query" if self.n_query == 1 else f"{self.n_query} queries"
        name = f"{self.n_way}w{self.k_shot}s {steps} {queries}"
        if (self.network, self.image_size) == ("conv4", 28):
            return name
        return f"{self.network} {self.image_size}x{self.image_size} {name}"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (3 if self.network == "resnet12" else 1, self.image_size, self.image_size)

    @property
    def gigaflop(self) -> float:
        """About how many operations a task takes, to plan with; `limit` counts them.

        A support image is worth six forward passes in each second-order step, a query image three.
        """
        size, forward = (28, 0.0073) if self.network == "conv4" else (84, 7.0)
        passes = self.n_way * (6 * self.k_shot * self.inner_steps + 3 * self.n_query)
        return passes * forward * (self.image_size / size) ** 2

    @property
    def inner_lr(self) -> float:
        """The Omniglot step size; a step of a network as deep as ResNet-12 must be smaller to stay finite."""
        return 0.4 if self.network == "conv4" else 0.01

    def plain_network(self, device: torch.device) -> nn.Module:
        """The learner's network with the same weights, stored as torch stores them and not as we like them."""
        network = copy.deepcopy(self.learner("loop", device).network)
        for parameter in network.parameters():
            parameter.data = parameter.data.contiguous()
        return network

    def learner(self, strategy: str, device: torch.device, task_chunk: int | None = None) -> MAML:
        """MAML in training mode; every call gives the same weights."""
        arguments: dict[str, Any] = {"task_strategy": strategy, "task_chunk": task_chunk}
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's about a backbone in the hyperparameters
            torch.manual_seed(0)
            backbone: Backbone = Conv4(image_size=self.image_size)
            if self.network == "resnet12":
                backbone = ResNet12(drop_rate=0, running_stats=False)
            outer = OuterLoop(**arguments)
            learner = MAML(self.n_way, backbone, self.inner_lr, inner_steps=self.inner_steps, outer=outer)
        return learner.to(device, self.dtype).train()

    def episode(self, n_tasks: int, device: torch.device) -> Episode:
        """T tasks of noise images; the first tasks are the same for every T."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.n_way * (self.k_shot + self.n_query), *self.image_shape)
        images = torch.stack([torch.rand(shape, generator=generator) for _ in range(n_tasks)]).to(device, self.dtype)
        support_x, query_x = images.split([self.n_way * self.k_shot, self.n_way * self.n_query], dim=1)
        label = torch.arange(self.n_way, device=device).expand(n_tasks, -1)  # (T, n_way)
        return Episode(
            task=Task.of(support_x.contiguous(), label.repeat_interleave(self.k_shot, dim=1), label),
            query_x=query_x.contiguous(),
            query_y=label.repeat_interleave(self.n_query, dim=1),
            task_id=torch.arange(n_tasks, device=device),
        )


CONV4_CASES = (Case(1, 1, 1), Case(1, 1, 5), Case(5, 5, 5), Case(1, 15, 1))


def resnet_case(device: torch.device) -> Case:
    """ResNet-12 on 5-way 5-shot tasks of 84x84: with 5 steps on a GPU; with one, and one query, on a CPU."""
    if device.type == "cuda":
        return Case(5, 5, 5, 84, "resnet12")
    return Case(5, 1, 1, 84, "resnet12")
