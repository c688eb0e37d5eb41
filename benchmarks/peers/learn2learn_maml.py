"""learn2learn's MAML, as its users write it: examples/vision/maml_omniglot.py of that library."""

import contextlib
import io
import warnings

import torch
from torch import nn

from benchmarks.cases import Case, Gradients, Step

NAME = "learn2learn"


def make_step(case: Case, n_tasks: int, device: torch.device) -> Step:
    """Its outer step on the case's network, weights and tasks: task by task, each with its own backward pass.

    Raises:
        ModuleNotFoundError: If learn2learn is not installed.
    """
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # gym's notice of its end of life
        warnings.simplefilter("ignore")
        from learn2learn.algorithms import MAML
    network, tasks = case.plain_network(device), case.episode(n_tasks, device)
    maml = MAML(network, lr=case.inner_lr, first_order=False)
    loss = nn.CrossEntropyLoss()

    def step() -> Gradients:
        for parameter in maml.parameters():
            parameter.grad = None
        for task in range(n_tasks):
            clone = maml.clone()
            for _ in range(case.inner_steps):
                clone.adapt(loss(clone(tasks.task.x[task]), tasks.task.y[task]))
            (loss(clone(tasks.query_x[task]), tasks.query_y[task]) / n_tasks).backward()
        return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}

    return Step(step)
