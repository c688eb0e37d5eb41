"""The base of every learner: from a batch of episodes to an outer step, and from a support set to a score."""

from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datamodules.episode import Episode
from datamodules.objective import OBJECTIVES
from modules.backbones.frozen_features import frozen_embedding
from modules.functional.tasks.networks import Variables
from modules.learner.accumulation import Accumulation
from modules.learner.checkpoint_arguments import plain_arguments
from modules.learner.checkpoint_format import FORMAT, format_refusal
from modules.learner.checkpoint_format import KEY as FORMAT_KEY
from modules.learner.cuda_graph import GraphedGradient
from modules.learner.evaluated_method import EvaluatedMethod
from modules.learner.finite_check import COLLAPSED, FiniteCheck, stop_training
from modules.learner.fit_check import check_fit, check_trainable
from modules.learner.loss_scale import has_collapsed, took_step
from modules.learner.outer_gradient import OuterGradient, task_means
from modules.learner.outer_loop import OuterLoop
from modules.learner.resume_point import (
    BEGUN,
    apply_outer_settings,
    begin_with_validation,
    rewind_to_outer_step,
)
from modules.learner.run_length import planned_steps
from modules.learner.training_count import (
    batches_trained,
    begin_batch,
    begin_training,
    end_batch,
    logs_this_step,
    validation_is_due,
)


class Learner(EvaluatedMethod):
    """A learner F of tasks: from a task's support set it makes a function, judged on the task's query set.

    What a method is, `Method` says; how it is evaluated, `EvaluatedMethod`. Here it is trained, the same way for every
    method: over chunks of tasks, reduced over ranks, scaled, clipped, accumulated and stepped.

    Args:
        network: The network that a method trains.
        outer: The outer loop's settings.
    """

    def __init__(self, network: nn.Module, outer: OuterLoop) -> None:
        super().__init__(network, outer)
        self.automatic_optimization = False
        self.train_metrics: Variables = {}  # of the newest outer step, still on the device
        self._accumulation = Accumulation(outer.accumulate_batches)
        self.input_spec: dict[str, Any] = {}  # what images must be turned into, by the data or the checkpoint
        self.logs_this_batch = False  # whether loggers take this batch's values: at every step it took 2 ms
        self._finite = FiniteCheck()
        self._graphed = GraphedGradient(self.batch_gradient, self._addresses) if outer.cuda_graph else None

    # ---- Lightning: training

    def on_fit_start(self) -> None:
        """Drops the recording of an earlier fit, which read that Trainer's loss scale; a learner that answered trains.

        Lightning leaves a network in evaluation that is so when it comes.
        """
        if not self.training:
            self.train()
        if self._graphed:
            self._graphed.forget()

    def on_train_start(self) -> None:
        """Begins at an outer step: what an earlier fit has accumulated since its last one is dropped."""
        super().on_train_start()
        self._accumulation.begin(batches_trained(self.trainer))
        begin_training(self.trainer, self.outer.accumulate_batches)

    def on_train_batch_start(self, batch: Episode, batch_idx: int) -> None:
        """Sets the batch's number for the loggers and the state of torch's generators."""
        self.logs_this_batch = False
        begin_batch(self.trainer, self.device)

    def training_step(self, episode: Episode, batch_idx: int) -> None:
        """One batch of T tasks, and an outer step when `accumulate_batches` of them are there."""
        episode = self.embedded(episode)
        gradient_of = self._graphed or self.batch_gradient
        if self._accumulation.add(episode, gradient_of(episode)) and self._outer_step():
            self.logs_this_batch = logs_this_step(self.trainer)
        if self.logs_this_batch:
            self._report_not_finite()
            self.log_dict({f"train/{name}": value for name, value in self.train_metrics.items()}, batch_size=1)

    def on_train_batch_end(self, outputs: Any, batch: Episode, batch_idx: int) -> None:
        """Keeps the loggers' numbers at outer steps."""
        end_batch(self.trainer)

    def batch_gradient(self, episode: Episode) -> OuterGradient:
        """The outer gradient of T tasks and the buffers after them, computed a chunk of tasks at a time."""
        self._lay_out(self._chunks, episode)
        total = None
        for gradient, share in self._chunks(self._chunk_gradient, episode):
            part = gradient.weighted(share)
            total = part if total is None else total.plus(part)
        assert total is not None
        return total

    def _addresses(self) -> list[Tensor]:
        """Lists what a recording of `batch_gradient` reads where it lies."""
        return [*self.parameters(), *self.buffers()]

    def _chunk_gradient(self, tasks: Episode) -> OuterGradient:
        params = self.variables(len(tasks.task_id))
        gradients, metrics = self.outer_gradients(params, self.with_noise(tasks))
        return OuterGradient(gradients, task_means({name: params[name] for name in self.updated_buffers()}), metrics)

    def _outer_step(self) -> bool:
        """Moves weights, buffers and schedule; where float16's scaler leaves the step out, nothing, and gives False."""
        optimizer, scale = self.optimizers(), self.loss_scale()
        assert isinstance(optimizer, LightningOptimizer)
        step, is_scaled = self.global_step + 1, not isinstance(scale, float)
        mean, batches = self._accumulation.take(batches_trained(self.trainer) + 1)
        mean = mean if self.trainer.world_size == 1 else mean.mean_over_ranks(self.trainer.strategy)
        if self._finite.finds(step, mean, scaled=is_scaled):
            stop_training(self, step, batches)
        for name, parameter in self.named_parameters():
            gradient = mean.gradients.get(name)
            parameter.grad = None if gradient is None else (gradient * scale).to(parameter.dtype)
        if not is_scaled:
            optimizer.step()
        elif not took_step(optimizer):
            self.skipped_steps += 1
            if has_collapsed(self.trainer.precision_plugin.scaler):  # type: ignore[attr-defined]
                stop_training(self, step, batches, COLLAPSED)
            return False
        for name, buffer in self.updated_buffers().items():
            buffer.copy_(mean.buffers[name])
        schedule = self.lr_schedulers()
        assert isinstance(schedule, LRScheduler)
        schedule.step()
        self.train_metrics = mean.metrics
        return True

    def _report_not_finite(self) -> None:
        step = self._finite.remembered()
        if step is not None:
            stop_training(self, step)

    def on_train_end(self) -> None:
        """Looks at the steps since the last look."""
        self._report_not_finite()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clips the gradients; here because float16's scale has been taken out of them by now."""
        if self.outer.clip_value is not None:
            self.clip_gradients(optimizer, self.outer.clip_value, "value")
        if self.outer.clip_norm is not None:
            self.clip_gradients(optimizer, self.outer.clip_norm, "norm")

    def configure_optimizers(self) -> Any:
        """The outer optimiser and its schedule."""
        optimizer = self.outer.make_optimizer(p for p in self.parameters() if p.requires_grad)
        steps = planned_steps(self.trainer, self.outer.accumulate_batches)
        # Where Lightning's LearningRateMonitor looks; the outer step itself advances the schedule.
        return [optimizer], [{"scheduler": self.outer.make_schedule(optimizer, steps), "interval": "step"}]

    # ---- Lightning: set-up and checkpoints

    def make_for(self, data: Any) -> None:
        """Makes what only the data decide, before a training: nothing here.

        Args:
            data: The data module, set up.
        """

    def setup(self, stage: str) -> None:
        """Forgets an earlier use, takes the objective from the data and checks that data, network and Trainer fit.

        Raises:
            ValueError: If they do not.
        """
        self._newest_classifier.forget()
        self._leave_other_precision()
        self._evaluation_chunks.size = None
        self.mean_scores, self.task_scores = {}, ([], {})
        if stage == "fit":
            self._finite.forget()
            self.train_metrics = {}
            self.skipped_steps = self.skipped_steps if self.trainer.global_step else 0
            self._chunks.size, self._layout_is_kept = None, False
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            return
        self.objective = data.objective
        check_fit(self, data, stage)
        own, shared = self.hparams, self.hparams.keys() & data.hparams.keys() - {"_class_path"}
        if any(type(own[name]) is not type(data.hparams[name]) or own[name] != data.hparams[name] for name in shared):
            data._log_hyperparams = False  # Lightning merges the two's for its loggers, and refuses two values of one
        if stage == "fit":
            check_trainable(self)
            self.input_spec = data.input_spec()
            self.check_unseen(stage)  # what a backbone's file was trained on
        if hasattr(data, "use_examples"):
            data.use_examples(self.group_size)
        if hasattr(data, "use_features"):
            data.use_features(frozen_embedding(self.backbone))

    def _leave_other_precision(self) -> None:
        """Makes weights that an earlier Trainer has made float64 or bfloat16 float32 again, where this one asks it.

        Lightning converts weights to the former alone.
        """
        trained = [parameter.dtype for parameter in self.parameters() if parameter.requires_grad]
        keeps_float32 = self.trainer.precision in ("32-true", "16-mixed", "bf16-mixed")
        if keeps_float32 and any(dtype != torch.float32 for dtype in trained):
            self.float()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what a user's image must be turned into and how tasks were computed, and notes a validation that is due.

        A backbone given as a module rather than by the configuration must be given again when loading.

        Raises:
            NotFiniteError: If the weights come from a loss or a gradient that was not finite.
        """
        self._report_not_finite()
        if self.validation_is_due:
            begin_with_validation(checkpoint)
        data = getattr(self.trainer, "datamodule", None)
        for key, owner in ((self.CHECKPOINT_HYPER_PARAMS_KEY, self), ("datamodule_hyper_parameters", data)):
            if key in checkpoint:
                checkpoint[key] = plain_arguments(checkpoint[key], type(owner))
        if data is not None:
            checkpoint["input_spec"] = data.input_spec()
        elif self.input_spec:
            checkpoint["input_spec"] = self.input_spec
        self.add_trained(checkpoint)
        checkpoint[FORMAT_KEY] = FORMAT
        checkpoint["objective"] = self.objective.name
        checkpoint["skipped_steps"], checkpoint[BEGUN] = self.skipped_steps, self.begun_batches
        checkpoint["train_metrics"] = dict(self.train_metrics)  # logged again where an outer step is begun again
        if self.task_chunk is not None:  # another way of computing sums in another order
            checkpoint["task_strategy"], checkpoint["task_chunk"] = self.task_strategy, self.task_chunk
            checkpoint["layout_asked"] = [self.outer.task_strategy, self.outer.task_chunk]

    @property
    def last_step_at(self) -> int:
        """The training batches that the newest outer step had behind it."""
        return self._accumulation.stepped_at

    @property
    def begun_batches(self) -> int:
        """The training batches since the last outer step."""
        return max(0, batches_trained(self._trainer) - self._accumulation.stepped_at) if self._trainer else 0

    @property
    def validation_is_due(self) -> bool:
        """Tells whether this is the end of a training batch after which a validation comes."""
        return self._trainer is not None and self._trainer.training and validation_is_due(self._trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on after the last outer step, computing tasks the way that "auto" chose before.

        Raises:
            ValueError: If the checkpoint was written in another format.
        """
        if refusal := format_refusal(checkpoint):
            raise ValueError(f"the checkpoint cannot be read: {refusal}.")
        self.objective = OBJECTIVES[checkpoint["objective"]]
        self.input_spec = checkpoint.get("input_spec", {})
        asked = [self.outer.task_strategy, self.outer.task_chunk]
        if "task_strategy" in checkpoint and checkpoint.get("layout_asked", asked) == asked:
            self._chosen_strategy, self._layout_is_kept = checkpoint["task_strategy"], True
            self._chunks.size = checkpoint.get("task_chunk")  # one that was halved stays so
        self.take_trained(checkpoint)
        self.train_metrics = checkpoint.get("train_metrics", {})
        self.skipped_steps = checkpoint.get("skipped_steps", 0)
        rewind_to_outer_step(checkpoint)
        if self._trainer and self._trainer.state.fn == "fit":
            steps = planned_steps(self._trainer, self.outer.accumulate_batches)
            apply_outer_settings(checkpoint, self.outer, steps)
        if self._trainer:  # it loads the weights before it gives the model its precision: "64-true" would lose digits
            self._trainer.precision_plugin.convert_module(self)
