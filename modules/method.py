"""A method of meta-learning: three pure functions of the meta-parameters, and what they are written with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from datamodules.episode import CLASSIFICATION, Episode, Objective, Support
from modules.backbones import Backbone
from modules.class_paths import check_checkpoint_classes
from modules.frozen_features import embed_images, passes_features
from modules.functional.networks import (
    Strategy,
    Variables,
    forward_tasks,
    normalises_by_batch,
    part,
)
from modules.functional.shared_weights import forward_shared
from modules.outer_loop import OuterLoop
from modules.trained_images import TrainedOn
from modules.trainer_check import check_episode, check_trainer
from modules.weights import weights_follow


class Method(TrainedOn):
    """What a method says of itself; `Learner` trains and evaluates it.

    A method is three functions of the meta-parameters: `adapt`, `predict` and `outer_gradients`, whose default
    differentiates the query loss. They are pure: `params` holds the shared parameters by name, (*shape), and every
    buffer, which a training forward pass may update in place, as (T, *shape), a copy for each task.

    Args:
        network: The network that a method trains; its variables appear in `params` under "network.".
        outer: The outer loop's settings.
    """

    inner_steps: int = 0  # of training
    eval_inner_steps: int = 0
    fixed_way: int | None = None  # classes of every task, for a network with an output for each
    input_shape: tuple[int, ...] | None = None  # (C, H, W) that the network takes
    in_learn2learn = False  # whether outer.task_strategy may ask for that library's inner loop
    changes_with_step = False  # whether the outer gradient is another function at another `outer_step`
    # whether a task's queries see each other, through batch statistics, in the headline score
    transductive: bool = False
    default_backbone: ClassVar[dict[str, Any]] = {}  # Conv4's arguments in the backbone that no argument gives

    def __init__(self, network: nn.Module, outer: OuterLoop) -> None:
        super().__init__()
        self.network = network
        self.begin_untrained(network)
        self.outer = outer
        self.objective: Objective = CLASSIFICATION
        self.skipped_steps = 0  # outer steps that float16's loss scaling left out
        self._chosen_strategy: str = "loop"  # by task_strategy "auto", at the first episode or in the checkpoint
        self._shares_weights = False

    # ---- the method: three pure functions

    def adapt(self, params: Variables, support: Support, n_way: int, steps: int, noise: Tensor | None) -> Iterator[Any]:
        """Learns T tasks from their support sets.

        Args:
            params: Meta-parameters and buffers.
            support: (T, S, ...) examples and their labels.
            n_way: Classes of a task.
            steps: Inner steps; methods without an inner loop ignore it.
            noise: What `draw_noise` drew for these tasks.

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

    def query_loss(self, params: Variables, episode: Episode, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """The outer objective: each task's loss on its query set after adaptation, (T,); and the outputs, (T, Q, n)."""
        *_, state = self.adapt(params, episode.support, episode.class_id.shape[1], self.inner_steps, noise)
        outputs = self.predict(params, state, episode.query_x)
        return self.objective.loss(outputs, episode.query_y).mean(1), outputs

    def outer_gradients(
        self, params: Variables, episode: Episode, noise: Tensor | None
    ) -> tuple[Variables, dict[str, Tensor]]:
        """The outer gradient, a mean over the T tasks, for each trainable parameter; and the mean scores to log.

        The default is the gradient of the mean query loss.

        Returns:
            (name -> (*shape), metric -> ()).
        """
        losses, outputs = self.query_loss(params, episode, noise)
        trainable = {name: value for name, value in params.items() if value.requires_grad}
        scale = self.loss_scale()  # keeps float16's small gradients from vanishing; undone in float32
        gradients = torch.autograd.grad(losses.mean() * scale, list(trainable.values()), materialize_grads=True)
        score = self.objective.score(outputs.detach(), episode.query_y).mean()
        metrics = {"loss": losses.mean().detach(), self.objective.score_name: score}
        if not isinstance(scale, float):
            gradients = tuple(gradient / scale for gradient in gradients)
        return dict(zip(trainable, gradients, strict=True)), metrics

    def draw_noise(self, task_id: Tensor, n_support: int, steps: int) -> Tensor | None:
        """The random numbers that adapting these tasks takes, a function of the task numbers; None where it takes none.

        Args:
            task_id: (T,) int64.
            n_support: S, examples in a support set.
            steps: Inner steps.

        Returns:
            (T, ...) or None.
        """
        return None

    def protocol(self) -> dict[str, Any]:
        """How the headline result was evaluated, as a result must state it."""
        return {"method": type(self).__name__, "inner_steps": self.eval_inner_steps, "transductive": self.transductive}

    @property
    def learned_arguments(self) -> tuple[str, ...]:
        """The constructor's arguments that say what learned values begin with: those of a checkpoint replace them."""
        return ()

    # ---- for methods

    def forward_network(self, variables: Variables, x: Tensor, layer: str = "") -> Tensor:
        """Applies the network to T tasks: variables by their name in `params`, x (T, B, ...) -> (T, B, ...).

        Args:
            variables: Each shared by all tasks, (*shape), or of each task, (T, *shape).
            x: What the network takes, or a layer of it.
            layer: A layer's name, to apply that alone; "": all.
        """
        network = self.network.get_submodule(layer)
        own = part(variables, f"network.{layer}." if layer else "network.")
        if self._shares_weights:
            return forward_shared(network, own, x)
        strategy = "loop" if self.task_strategy == "learn2learn" else self.task_strategy
        return forward_tasks(network, own, x, cast(Strategy, strategy))

    @contextmanager
    def sharing_weights(self) -> Iterator[None]:
        """Inside it all tasks have the same adapted weights, and are computed as one batch that can be traced."""
        self._shares_weights = True
        try:
            yield
        finally:
            self._shares_weights = False

    @property
    def sets_of_weights(self) -> int:
        """How many networks a task takes at once."""
        return 1

    @property
    def outer_step(self) -> int:
        """The outer steps taken so far, for what changes in the course of training; those left out do not count."""
        return max(0, self._trainer.global_step - self.skipped_steps) if self._trainer else 0

    @property
    def task_strategy(self) -> str:
        """The strategy asked for, or what "auto" chose."""
        return self._chosen_strategy if self.outer.task_strategy == "auto" else self.outer.task_strategy

    @property
    def sees_other_queries(self) -> bool:
        """Whether a query's output depends on the queries in its batch, through batch statistics."""
        return normalises_by_batch(self.network)

    def trainable(self, variables: Variables) -> Variables:
        """Those of the variables that are parameters and not frozen."""
        return {name: variables[name] for name, parameter in self.named_parameters() if parameter.requires_grad}

    def variables(self, n_tasks: int | None = None) -> Variables:
        """The meta-parameters and buffers: every buffer shared, or a copy for each of `n_tasks` tasks to update."""
        buffers = dict(self.named_buffers())
        if n_tasks is not None:
            copies = {name: v.expand(n_tasks, *v.shape).clone() for name, v in self.updated_buffers().items()}
            buffers |= copies
        return dict(self.named_parameters()) | buffers

    def updated_buffers(self) -> Variables:
        """The buffers that training may update: those outside a frozen backbone, whose ones all tasks share."""
        buffers, backbone = dict(self.named_buffers()), self.backbone
        if backbone is not None and backbone.frozen:
            prefix = "network." if backbone is self.network else "network.backbone."
            buffers = {name: buffer for name, buffer in buffers.items() if not name.startswith(prefix)}
        return buffers

    @property
    def backbone(self) -> Backbone | None:
        """The network without a method's own output layer."""
        backbone = self.network if isinstance(self.network, Backbone) else getattr(self.network, "backbone", None)
        return backbone if isinstance(backbone, Backbone) else None

    def embedded(self, episode: Episode) -> Episode:
        """The episode with a frozen backbone's features, computed once for all steps, in place of its images."""
        check_episode(episode)
        backbone = self.backbone
        if backbone is None or not passes_features(backbone) or episode.support_x.dim() == 3:
            return episode
        support_x, query_x = (
            embed_images(backbone, x.flatten(0, 1)).unflatten(0, x.shape[:2])
            for x in (episode.support_x, episode.query_x)
        )  # (T, S, D), (T, Q, D)
        return episode._replace(support_x=support_x, query_x=query_x)

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
        """What float16 training multiplies the loss by; 1 otherwise."""
        scaler = getattr(self._trainer.precision_plugin, "scaler", None) if self._trainer else None
        return 1.0 if scaler is None else scaler.scale(torch.ones((), device=self.device))
