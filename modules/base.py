"""The base of every learner: from a batch of episodes to an outer step, and from a support set to a score."""

from collections.abc import Iterator
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datamodules.episode import CLASSIFICATION, Episode, Objective, Support
from modules.classifier import Classifier
from modules.evaluation import TaskScores, score_names, score_tasks
from modules.fit_check import check_fit
from modules.functional.networks import (
    Strategy,
    Variables,
    choose_strategy,
    forward_tasks,
    normalises_by_batch,
    part,
)
from modules.outer_gradient import OuterGradient, task_means
from modules.outer_loop import OuterLoop
from modules.resume_point import rewind_to_outer_step


class Learner(pl.LightningModule):
    """A learner F of tasks: from a task's support set it makes a function, judged on the task's query set.

    A method is three functions of the meta-parameters: `adapt`, `predict` and `outer_gradients`, whose default
    differentiates the query loss. They are pure: `params` holds the shared parameters by name, (*shape), and every
    buffer, which a training forward pass may update in place, as (T, *shape), a copy for each task. The base alone goes
    over chunks of tasks, reduces over ranks, scales, clips, accumulates and steps, and it evaluates, the same way for
    every method.

    Args:
        network: The network that a method trains; its variables appear in `params` under "network.".
        outer: The outer loop's settings.
    """

    inner_steps: int = 0  # of training
    eval_inner_steps: int = 0
    fixed_way: int | None = None  # classes of every task, for a network with an output for each
    input_shape: tuple[int, int, int] | None = None  # (C, H, W) that the network takes
    # whether a task's queries see each other, through batch statistics, in the headline score
    transductive: bool = False

    def __init__(self, network: nn.Module, outer: OuterLoop) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.outer = outer
        self.objective: Objective = CLASSIFICATION
        self._accumulated: OuterGradient | None = None
        self._chosen_strategy = "vmap"  # by task_strategy "auto", in `setup` or by the checkpoint
        # DDP would broadcast buffers on every forward pass, also where ranks validate different numbers of batches; the
        # outer step keeps them equal.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

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
        scale = self._loss_scale()  # keeps float16's small gradients from vanishing; undone in float32
        gradients = torch.autograd.grad(losses.mean() * scale, list(trainable.values()), materialize_grads=True)
        score = self.objective.score(outputs.detach(), episode.query_y).mean()
        metrics = {"loss": losses.mean().detach(), self.objective.score_name: score}
        return {name: gradient / scale for name, gradient in zip(trainable, gradients, strict=True)}, metrics

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

    # ---- for methods

    def forward_network(self, variables: Variables, x: Tensor) -> Tensor:
        """Applies the network to T tasks: variables by their name in `params`, x (T, B, ...) -> (T, B, ...)."""
        strategy = self.task_strategy if self.task_strategy != "learn2learn" else "loop"
        return forward_tasks(self.network, part(variables, "network."), x, cast(Strategy, strategy))

    @property
    def task_strategy(self) -> str:
        """The strategy asked for, or what "auto" chose."""
        return self._chosen_strategy if self.outer.task_strategy == "auto" else self.outer.task_strategy

    @property
    def sees_other_queries(self) -> bool:
        """Whether a query's output depends on the queries in its batch, through batch statistics."""
        return normalises_by_batch(self.network)

    def variables(self, n_tasks: int | None = None) -> Variables:
        """The meta-parameters and buffers: every buffer shared, or a copy for each of `n_tasks` tasks to update."""
        buffers = dict(self.named_buffers())
        if n_tasks is not None:
            buffers = {name: value.expand(n_tasks, *value.shape).clone() for name, value in buffers.items()}
        return dict(self.named_parameters()) | buffers

    def classifier(self, support: Support, n_way: int) -> Classifier:
        """Adapts to T tasks and gives their classifier; its answer for an image depends on no other query."""
        return Classifier(self, support, n_way)

    # ---- Lightning: training

    def training_step(self, episode: Episode, batch_idx: int) -> None:
        """One batch of T tasks, and an outer step when `accumulate_batches` of them are there."""
        gradient = self.batch_gradient(episode).weighted(1 / self.outer.accumulate_batches)
        self._accumulated = gradient if self._accumulated is None else self._accumulated.plus(gradient)
        if (batch_idx + 1) % self.outer.accumulate_batches == 0:
            mean, self._accumulated = self._accumulated, None
            self._outer_step(mean if self.trainer.world_size == 1 else mean.mean_over_ranks(self.trainer.strategy))

    def batch_gradient(self, episode: Episode) -> OuterGradient:
        """The outer gradient of T tasks and the buffers after them, computed `task_chunk` tasks at a time."""
        n_tasks = len(episode.task_id)
        chunk = self.outer.task_chunk or n_tasks
        total = None
        for start in range(0, n_tasks, chunk):
            tasks = episode.tasks(start, start + chunk)
            params = self.variables(len(tasks.task_id))
            noise = self.draw_noise(tasks.task_id, tasks.support_x.shape[1], self.inner_steps)
            gradients, metrics = self.outer_gradients(params, tasks, noise)
            buffers = task_means({name: params[name] for name, _ in self.named_buffers()})
            share = OuterGradient(gradients, buffers, metrics).weighted(len(tasks.task_id) / n_tasks)
            total = share if total is None else total.plus(share)
        assert total is not None
        return total

    def _outer_step(self, mean: OuterGradient) -> None:
        optimizer, scale = self.optimizers(), self._loss_scale()
        assert isinstance(optimizer, LightningOptimizer)
        for name, parameter in self.named_parameters():
            parameter.grad = mean.gradients[name] * scale if name in mean.gradients else None
        optimizer.step()
        for name, buffer in self.named_buffers():
            buffer.copy_(mean.buffers[name])
        schedule = self.lr_schedulers()
        assert isinstance(schedule, LRScheduler)
        schedule.step()
        self.log_dict({f"train/{name}": value for name, value in mean.metrics.items()}, prog_bar=True, batch_size=1)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clips the gradients; here because float16's scale has been taken out of them by now."""
        if self.outer.clip_value is not None:
            self.clip_gradients(optimizer, self.outer.clip_value, "value")
        if self.outer.clip_norm is not None:
            self.clip_gradients(optimizer, self.outer.clip_norm, "norm")

    def configure_optimizers(self) -> Any:
        """The outer optimiser and its schedule."""
        optimizer = self.outer.make_optimizer(p for p in self.parameters() if p.requires_grad)
        return [optimizer], [self.outer.make_schedule(optimizer, self.trainer.max_steps)]

    def _loss_scale(self) -> Tensor | float:
        """What float16 training multiplies the loss by; 1 otherwise."""
        scaler = getattr(self._trainer.precision_plugin, "scaler", None) if self._trainer else None
        return 1.0 if scaler is None else scaler.scale(torch.ones((), device=self.device))

    # ---- Lightning: evaluation

    def on_validation_epoch_start(self) -> None:
        """Starts the means of a validation."""
        self._scores = TaskScores(score_names(self, both_protocols=False), self.device)

    def validation_step(self, episode: Episode, batch_idx: int) -> None:
        """Scores T validation tasks."""
        self._scores.update(score_tasks(self, episode, both_protocols=False))

    def on_validation_epoch_end(self) -> None:
        """Logs `val/accuracy`, `val/ci95`, `val/loss` and the adaptation curve."""
        self.log_dict(self._scores.compute("val", (self.objective.score_name,)), prog_bar=True)

    def on_test_epoch_start(self) -> None:
        """Starts the means of a test."""
        self._scores = TaskScores(score_names(self, both_protocols=True), self.device)

    def test_step(self, episode: Episode, batch_idx: int) -> None:
        """Scores T test tasks by both protocols where they differ."""
        self._scores.update(score_tasks(self, episode, both_protocols=True))

    def on_test_epoch_end(self) -> None:
        """Logs `test/accuracy`, `test/ci95`, ..., and both protocols' accuracy and interval where they differ."""
        score = self.objective.score_name
        self.log_dict(self._scores.compute("test", (score, f"{score}_transductive", f"{score}_inductive")))

    def predict_step(self, episode: Episode, batch_idx: int) -> dict[str, Tensor]:
        """Classifies the queries of T tasks, inductively.

        Returns:
            "task_id" (T,), "class_id" (T, n_way), "query_y" (T, Q) and "probabilities" (T, Q, n_way).
        """
        probabilities = self.classifier(episode.support, episode.class_id.shape[1])(episode.query_x)
        fields = {"task_id": episode.task_id, "class_id": episode.class_id, "query_y": episode.query_y}
        return fields | {"probabilities": probabilities}

    # ---- Lightning: set-up and checkpoints

    def setup(self, stage: str) -> None:
        """Takes the objective from the data and checks that data, network and Trainer fit the learner.

        Raises:
            ValueError: If they do not.
        """
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            return
        self.objective = data.objective
        check_fit(self, data)
        tasks_at_once = data.meta_batch_size // self.trainer.world_size
        self._chosen_strategy = choose_strategy(min(tasks_at_once, self.outer.task_chunk or tasks_at_once))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what a user's image must be turned into, and how tasks were computed: another way sums in another order.

        A backbone given as a module rather than by the configuration must be given again when loading, as Lightning has
        it.
        """
        arguments = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
        for name in [name for name, value in arguments.items() if isinstance(value, nn.Module)]:
            del arguments[name]
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            checkpoint["input_spec"] = data.input_spec()
        checkpoint["task_strategy"] = self.task_strategy

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on after the last outer step, computing tasks the way that "auto" chose before."""
        self._chosen_strategy = checkpoint.get("task_strategy", self._chosen_strategy)
        rewind_to_outer_step(checkpoint, self.outer.accumulate_batches)
        if (
            self._trainer
        ):  # loads the weights before it gives the model its precision: "64-true" would lose their digits
            self._trainer.precision_plugin.convert_module(self)
