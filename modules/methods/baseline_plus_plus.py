"""Baseline++: features trained by ordinary classification with cosines, and a new cosine classifier for each task."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.episode import Task
from datamodules.tasks.counter import random_bits
from modules.backbones.backbone import Backbone
from modules.backbones.conv4 import Conv4
from modules.backbones.wrapped_module import as_backbone
from modules.functional.full_precision import in_full_precision
from modules.functional.inner_loop import Update, inner_loop
from modules.functional.mini_batches import take
from modules.functional.tasks.networks import Variables
from modules.learner.example_learner import ExampleLearner
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive

HEADS_STREAM = 1 << 26  # keeps these draws apart from those of tasks, examples, augmentation and other methods
ORDERS_STREAM = 1 << 27
MANY_CLASSES = 200  # above which the authors' scale is the larger one
EPSILON = 1e-5  # added to a feature vector's length


class Adapted(NamedTuple):
    """The cosine classifiers of T tasks."""

    norms: Tensor  # (T, N), g
    directions: Tensor  # (T, N, D), v


class BaselinePlusPlus(ExampleLearner):
    """Classifies by scaled cosines between features and a learned row for each class, in training and in a task.

    Training fits network and rows to labelled examples of all training classes. For a task the network stays as it is,
    and new random rows are fitted to the support set by gradient descent on mini-batches. An inner step is one pass
    over the support set. Any number of classes.

    Args:
        backbone: The features; None: Conv4 with max-pooling, flattened, running statistics, for 28x28 greyscale.
        group_size: Labelled examples of a group: with a `meta_batch_size` of 1 the batch size.
        scale: What cosines are multiplied by; None: 2 for up to 200 classes and 10 for more, as in the authors' code.
        eval_inner_lr: Step size of the fit to a support set.
        eval_inner_steps: Passes over the support set.
        eval_inner_batch_size: Examples of a mini-batch of it.
        momentum: Of the fit to a support set.
        dampening: What a gradient's share in the momentum is lowered by.
        weight_decay: L2, of the fit to a support set.
        outer: The outer loop.

    Reference:
        Chen, Liu, Kira, Wang and Huang, "A Closer Look at Few-shot Classification", ICLR 2019, section 3.2, and the
        authors' code, whose rows have a learned length g each.

    Checked:
        reference: torch's SGD and weight normalisation on each task alone.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        group_size: int = 16,
        scale: float | None = None,
        eval_inner_lr: float = 0.01,
        eval_inner_steps: int = 100,
        eval_inner_batch_size: int = 4,
        momentum: float = 0.9,
        dampening: float = 0.9,
        weight_decay: float = 0.001,
        outer: OuterLoop = OuterLoop(),
    ) -> None:
        check_positive(scale=scale, eval_inner_lr=eval_inner_lr, eval_inner_batch_size=eval_inner_batch_size)
        shares = {"momentum": momentum, "dampening": dampening}
        for name, value in (shares | {"weight_decay": weight_decay, "eval_inner_steps": eval_inner_steps}).items():
            if value < 0 or (name in shares and value > 1):
                raise ValueError(f"{name} must be {'in [0, 1]' if name in shares else '0 or more'}, got {value}.")
        embedding = as_backbone(Conv4(**self.default_backbone) if backbone is None else backbone)
        super().__init__(embedding, outer, group_size)
        self.save_hyperparameters()
        self.input_shape, self.feature_dim, self.scale = embedding.input_shape, embedding.feature_dim, scale
        self.eval_inner_lr, self.eval_inner_steps = eval_inner_lr, eval_inner_steps
        self.eval_inner_batch_size = eval_inner_batch_size
        self.momentum, self.dampening, self.weight_decay = momentum, dampening, weight_decay

    def make_head(self, n_classes: int) -> nn.Module:
        """The rows of all training classes."""
        return CosineHead(self.feature_dim, n_classes, self._scale_for(n_classes))

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Adapted]:
        """Fits new rows to the support set's features; a state follows each pass over them."""
        features = self.run(params, "network", task.x)  # (T, S, D)
        rows, keys = task.noise[:, : self.feature_dim], task.noise[:, self.feature_dim :]  # keys (T, at least steps, S)
        start = rows[..., : task.n_way].transpose(1, 2).to(features)  # (T, N, D)
        batches = keys[:, :steps].argsort(dim=-1, stable=True).split(self.eval_inner_batch_size, dim=-1)
        initial = {"norms": start.norm(dim=-1), "directions": start}

        def batch_loss(step: int, rows: Variables) -> Tensor:
            index = batches[step % len(batches)][:, step // len(batches)]  # (T, B)
            logits = self._logits(take(features, index), Adapted(**rows))  # (T, B, N)
            return self.objective.loss(logits, take(task.y, index)).mean(1)  # (T,)

        update = momentum_sgd(self.eval_inner_lr, self.momentum, self.dampening, self.weight_decay)
        states = inner_loop(batch_loss, initial, update, steps * len(batches))
        for done, fitted in enumerate(states):
            if done % len(batches) == 0:
                yield Adapted(**fitted)

    def predict(self, params: Variables, state: Adapted, query_x: Tensor) -> Tensor:
        """Logits (T, Q, n_way)."""
        return self._logits(self.run(params, "network", query_x), state)

    def draw_noise(self, task_id: Tensor, n_support: int, steps: int) -> Tensor:
        """For each class its first row, then for each example its place in each pass: (T, D + steps, S).

        There are no more classes than examples. Rows begin uniform in +- 1 / sqrt(D), as PyTorch's linear layers do.
        More steps leave rows and earlier passes as they are, and more examples the rows of the first classes.
        """
        size = self.feature_dim
        rows = uniform_numbers(random_bits(0, HEADS_STREAM, task_id, n_support * size)).unflatten(1, (n_support, size))
        keys = uniform_numbers(random_bits(0, ORDERS_STREAM, task_id, steps * n_support))
        return torch.cat([rows.transpose(1, 2) / size**0.5, keys.unflatten(1, (steps, n_support))], dim=1)

    def _scale_for(self, n_classes: int) -> float:
        if self.scale is not None:
            return self.scale
        return 2.0 if n_classes <= MANY_CLASSES else 10.0

    def _logits(self, features: Tensor, rows: Adapted) -> Tensor:
        return scaled_cosines(features, rows.norms, rows.directions, self._scale_for(rows.norms.shape[1]))


class CosineHead(nn.Module):
    """A classifier whose logits are s * g_c * cos(v_c, x).

    Args:
        feature_dim: D.
        n_classes: C.
        scale: s.
    """

    def __init__(self, feature_dim: int, n_classes: int, scale: float) -> None:
        super().__init__()
        rows = nn.Linear(feature_dim, n_classes, bias=False).weight.detach()  # (C, D)
        self.directions, self.norms = nn.Parameter(rows.clone()), nn.Parameter(rows.norm(dim=1))
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D) to logits (B, C)."""
        return scaled_cosines(features, self.norms, self.directions, self.scale)


def uniform_numbers(bits: Tensor) -> Tensor:
    """Random bits (...) in [0, 2**32) as float32 numbers (...) in [-1, 1).

    Example:
        >>> uniform_numbers(torch.tensor([0, 1 << 31])).tolist()
        [-1.0, 0.0]
    """
    return (bits >> 8).to(torch.float32) * 2.0**-23 - 1


@in_full_precision
def scaled_cosines(features: Tensor, norms: Tensor, directions: Tensor, scale: float) -> Tensor:
    """Logits s * g_c * cos(v_c, x), the cosines lowered by 1e-5 in a feature vector's length as the authors do.

    Args:
        features: (..., B, D).
        norms: g, (..., N).
        directions: v, (..., N, D).
        scale: s.

    Returns:
        (..., B, N), in float32 at least, under mixed precision too.

    Example:
        >>> scaled_cosines(torch.tensor([[3.0, 0.0]]), torch.ones(2), torch.eye(2), 2.0).round(decimals=3).tolist()
        [[2.0, 0.0]]
    """
    unit = features / (features.norm(dim=-1, keepdim=True) + EPSILON)
    rows = norms.unsqueeze(-1) * functional.normalize(directions, dim=-1)  # (..., N, D)
    return scale * unit @ rows.transpose(-1, -2)


def momentum_sgd(lr: float, momentum: float, dampening: float = 0.0, weight_decay: float = 0.0) -> Update:
    """Gradient descent with momentum, as `torch.optim.SGD` computes it.

    Computes g <- g + lambda * theta, v <- mu * v + (1 - tau) * g and theta <- theta - lr * v, where v is g at the first
    step.

    Args:
        lr: Step size.
        momentum: mu.
        dampening: tau.
        weight_decay: lambda.
    """

    def update(
        step: int, loss: Tensor, params: Variables, gradients: Variables, moments: Variables
    ) -> tuple[Variables, Variables]:
        penalised = {n: torch.add(gradients[n], value, alpha=weight_decay) for n, value in params.items()}
        if moments:
            penalised = {n: momentum * moments[n] + (1 - dampening) * value for n, value in penalised.items()}
        return {n: torch.add(value, penalised[n], alpha=-lr) for n, value in params.items()}, penalised

    return update
