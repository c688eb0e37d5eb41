"""parallel-metalearn's MAML, as its README writes it: all tasks at once by vmap over torch.func.grad."""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases import Case, Gradients, Step

NAME = "parallel-metalearn"


class Keywords(nn.Module):
    """A layer that takes the keywords which this library passes to every layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        """The layer's output; it needs none of the keywords."""
        return self.layer(x)


def make_step(case: Case, n_tasks: int, device: torch.device, task_chunk: int | None = None) -> Step:
    """Its outer step on the case's network, weights and tasks.

    The gradient is some 0.4% off, in float64 too: the library takes `vmap` of `torch.func.grad`, and torch 2.11
    differentiates nn.BatchNorm2d's backward pass wrongly there. The library's own BatchNorm layer gives learn2learn's
    gradient and takes a fifth longer; timed is the same network as everyone's.

    Raises:
        ModuleNotFoundError: If parallel-metalearn is not installed.
    """
    from metalearn.algorithms import MAML
    from metalearn.inner_optimizers import InnerSGD
    from metalearn.loss import CategoricalAccuracy, CrossEntropy
    from metalearn.model_wrappers import MAML_Model

    network, tasks = case.plain_network(device), case.episode(n_tasks, device)
    backbone, head = (Keywords(layer) for layer in network.children())
    model = MAML_Model(backbone, head)
    model.train()
    algorithm = MAML(
        model=model,
        # no contestant is timed on the optimiser's update, and this library's step ends with it
        optimizer=torch.optim.SGD([nn.Parameter(torch.zeros(()))]),
        inner_optimizer=InnerSGD(model.get_fast_weights(), first_order=False, inner_lr=case.inner_lr, learn_lr=False),
        support_loss_fn=CrossEntropy(metric_fn=CategoricalAccuracy()),
        inner_steps=case.inner_steps,
        chunk_size=task_chunk or n_tasks,
        device=device,
    )
    batch = (tasks.task.x, {"labels": tasks.task.y}, tasks.query_x, {"labels": tasks.query_y})

    def step() -> Gradients:
        model.zero_grad()
        algorithm.step(iter([batch]))
        return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}

    return Step(step)
