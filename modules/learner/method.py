"""A method of meta-learning: three pure functions of the meta-parameters, and what it says of itself."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from datamodules.episode import Episode, Task, no_noise
from datamodules.objective import CLASSIFICATION, Objective
from modules.backbones.backbone import Backbone
from modules.backbones.conv4 import Conv4
from modules.backbones.weights import weights_follow
from modules.functional.tasks.networks import (
    Variables,
)
from modules.learner.class_paths import check_checkpoint_classes
from modules.learner.outer_loop import OuterLoop
from modules.learner.task_networks import TaskNetworks
from modules.learner.trainer_check import check_trainer


class Method(TaskNetworks):
    """What a method says of itself; `Learner` trains and evaluates it.

    A method is three functions of the meta-parameters: `adapt`, `predict` and `outer_gradients`, whose default
    differentiates the query loss. They are pure: `params` holds the shared parameters by name, (*shape), and every
    buffer as (T, *shape), a copy for each task, which a training forward pass may update in place.

    Args:
        network: The network that a method trains; its variables appear in `params` under "network.". A method may have
            others, as attributes of other names.
        outer: The outer loop's settings.
    """

    objectives: tuple[str, ...] = ("classification", "regression")  # what the method can be asked for
    trains_on: Literal["tasks", "examples"] = "tasks"  # what a training batch holds; see `ExampleLearner`
    group_size: int | None = None  # labelled examples of a group, where it trains on these
    inner_steps: int = 0  # of training
    eval_inner_steps: int = 0
    fixed_way: int | None = None  # classes of every task, for a network with an output for each
    input_shape: tuple[int, ...] | None = None  # (C, H, W) that the network takes
    in_learn2learn = False  # whether outer.task_strategy may ask for that library's inner loop
    changes_with_step = False  # whether the outer gradient is another function at another `outer_step`
    # whether a task's queries see each other, through batch statistics, in the headline score
    transductive: bool = False
    default_backbone_class: ClassVar[type[Backbone]] = Conv4  # of the backbone that no argument gives
    default_backbone: ClassVar[dict[str, Any]] = {}  # its arguments
    # the name under which the loss that `query_loss` returns is logged; another than "loss" where it is no query loss
    training_loss = "loss"

    def __init__(self, network: nn.Module, outer: OuterLoop) -> None:
        super().__init__(network, outer)
        self.objective: Objective = CLASSIFICATION
        self.skipped_steps = 0  # outer steps that float16's loss scaling left out

    # ---- the method: three pure functions

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Any]:
        """Learns T tasks from their support sets.

        Args:
            params: Meta-parameters and buffers.
            task: T tasks.
            steps: Inner steps; methods without an inner loop ignore it.

        Yields:
            The state after 0, 1, ..., `steps` inner steps, as `predict` takes it; the last is the adapted one.
        """
        raise NotImplementedError

    def predict(self, params: Variables, state: Any, query_x: Tensor) -> Tensor:
        """The adapted learners' outputs for queries.

        Args:
            params: Meta-parameters and buffers.
            state: One that `adapt` yielded.
            query_x: (T, Q, *input_shape).

        Returns:
            (T, Q, n_outputs); logits in classification.
        """
        raise NotImplementedError

    def query_loss(self, params: Variables, episode: Episode) -> tuple[Tensor, Tensor]:
        """The outer objective: each task's loss on its query set after adaptation, (T,); and the outputs, (T, Q, n).

        A method whose objective is another one names it by `training_loss`.
        """
        *_, state = self.adapt(params, episode.task, self.inner_steps)
        outputs = self.predict(params, state, episode.query_x)
        return self.objective.loss(outputs, episode.query_y).mean(1), outputs

    def outer_gradients(self, params: Variables, episode: Episode) -> tuple[Variables, dict[str, Tensor]]:
        """The outer gradient, a mean over the T tasks, for each trainable parameter; and the mean scores to log.

        The default is the gradient of the mean of `query_loss`.

        Returns:
            (name -> (*shape), metric -> ()).
        """
        losses, outputs = self.query_loss(params, episode)
        trainable = {name: value for name, value in params.items() if value.requires_grad}
        scale = self.loss_scale()  # keeps float16's small gradients from vanishing; undone in float32
        gradients = torch.autograd.grad(losses.mean() * scale, list(trainable.values()), materialize_grads=True)
        if not isinstance(scale, float):
            gradients = tuple(gradient / scale for gradient in gradients)
        metrics = self.training_metrics(losses.detach(), outputs.detach(), episode)
        return dict(zip(trainable, gradients, strict=True)), metrics

    def training_metrics(self, losses: Tensor, outputs: Tensor, episode: Episode) -> dict[str, Tensor]:
        """What is logged of a training batch: the query loss and the score, and the method's own loss by its own name.

        Args:
            losses: What `query_loss` has returned, (T,).
            outputs: (T, Q, n_outputs).
            episode: T tasks.

        Returns:
            metric -> (); "loss" is the quantity that a validation logs under this name.
        """
        metrics = {self.training_loss: losses.mean()}
        if self.training_loss != "loss":
            metrics["loss"] = self.objective.loss(outputs, episode.query_y).mean()
        return metrics | {self.objective.score_name: self.objective.score(outputs, episode.query_y).mean()}

    def draw_noise(self, task_id: Tensor, n_support: int, steps: int) -> Tensor:
        """The random numbers that adapting these tasks takes, a function of the task numbers alone.

        Args:
            task_id: (T,) int64.
            n_support: S, examples in a support set.
            steps: Inner steps.

        Returns:
            (T, ...), which `adapt` finds in `task.noise`; (T, 0) where a method draws none.
        """
        return no_noise(len(task_id), task_id.device)

    def with_noise(self, episode: Episode) -> Episode:
        """The episode with the random numbers that adapting its tasks takes, in training or in evaluation."""
        steps = self.inner_steps if self.training else self.eval_inner_steps
        return episode.with_noise(self.draw_noise(episode.task_id, episode.task.x.shape[1], steps))

    def trial(self, params: Variables, episode: Episode) -> None:
        """Computes one inner step and a prediction: what they pass through decides how tasks are computed."""
        steps = self.inner_steps if self.training else self.eval_inner_steps
        *_, state = self.adapt(params, episode.task, min(steps, 1))
        self.predict(params, state, episode.query_x)

    def protocol(self) -> dict[str, Any]:
        """Tells how the headline result was evaluated, as a result must state it."""
        together = self.transductive and self.sees_other_queries
        return {"method": type(self).__name__, "inner_steps": self.eval_inner_steps, "transductive": together}

    @property
    def learned_arguments(self) -> tuple[str, ...]:
        """The constructor's arguments that say what learned values begin with: those of a checkpoint replace them."""
        return ()

    @property
    def outer_step(self) -> int:
        """The outer steps taken so far, for what changes in the course of training; those left out do not count."""
        return max(0, self._trainer.global_step - self.skipped_steps) if self._trainer else 0

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """DDP would broadcast buffers on every forward pass, also where ranks validate different numbers of batches.

        The outer step keeps them equal.
        """
        return [name for name, _ in self.named_buffers()]

    def configure_callbacks(self) -> list[pl.Callback]:
        """Checks the Trainer, here because nothing has been built or read yet; there are no callbacks."""
        check_trainer(self.trainer)
        return []

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> Self:
        """As Lightning's, for classes that are imported already; the backbone needs no file of weights any more."""
        check_checkpoint_classes(*args, bases=(Method, Backbone), **kwargs)
        with weights_follow():
            return super().load_from_checkpoint(*args, **kwargs)

    def loss_scale(self) -> Tensor | float:
        """Returns what float16 training multiplies the loss by; 1 otherwise."""
        scaler = getattr(self._trainer.precision_plugin, "scaler", None) if self._trainer else None
        return 1.0 if scaler is None else scaler.scale(torch.ones((), device=self.device))
