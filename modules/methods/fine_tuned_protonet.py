"""Prototypical networks whose embedding is fine-tuned on every task: P > M > F."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from torch import Tensor

from datamodules.episode import Task
from datamodules.images.augmentation import Augmentation, augment, draw, draws_of_images
from modules.backbones.backbone import Backbone
from modules.functional.inner_loop import adam, inner_loop
from modules.functional.prototypes import class_means
from modules.functional.tasks.networks import Variables, for_each_task
from modules.learner.fit_check import why_nothing_moves
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive
from modules.methods.protonet import ProtoNet

FINE_TUNING_STREAM = 1 << 22  # keeps these draws apart from those of tasks, mini-batches and training's augmentation


class FineTuned(NamedTuple):
    """What T tasks are learned as."""

    fast_params: Variables  # name -> (T, *shape), in place of the shared ones; none before the first step
    prototypes: Tensor  # (T, n_way, D)


class FineTunedProtoNet(ProtoNet):
    """Meta-trained as a ProtoNet; in evaluation the network's weights are fine-tuned on each task's support set.

    A step classifies an augmented copy of the support set by the prototypes of the clean one, and lets Adam lower its
    cross-entropy. Running statistics stay as they are. It costs `eval_inner_steps` passes of each support set, and for
    each task that is computed at once the memory of four networks: `outer.task_chunk` bounds it.

    Args:
        backbone: The embedding; None: that of ProtoNet.
        eval_inner_lr: Step size of Adam; the authors choose it for each data set, among 0, 0.0001, 0.001 and 0.01.
        eval_inner_steps: Steps on a task; 0: a ProtoNet.
        support_augmentation: Random changes of the support images that are classified.
        outer: The outer loop.
        distance: As in ProtoNet; the paper's is "cosine", whose scale fine-tuning leaves as it is.

    Reference:
        Hu, Li, Stühmer, Kim and Hospedales, "Pushing the Limits of Simple Pipelines for Few-Shot Learning", CVPR 2022,
        section 3.3, and the authors' `ProtoNet_Finetune`. Deviation: they mirror, shift and recolour by DiffAugment, in
        nine steps of ten; here by `support_augmentation`, in every step.

    Checked:
        reference: torch's Adam on each task alone.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        eval_inner_lr: float = 1e-4,
        eval_inner_steps: int = 50,
        support_augmentation: Augmentation = Augmentation(crop=0.7, jitter=0.4),
        outer: OuterLoop = OuterLoop(schedule="step"),
        distance: Literal["euclidean", "cosine"] = "cosine",
    ) -> None:
        check_positive(eval_inner_lr=eval_inner_lr)
        if eval_inner_steps < 0:
            raise ValueError(f"eval_inner_steps must be 0 (a ProtoNet) or more, got {eval_inner_steps}.")
        super().__init__(backbone, outer, distance)
        if not any(parameter.requires_grad for parameter in self.network.parameters()):
            raise ValueError(
                f"FineTunedProtoNet has nothing to fine-tune, as {why_nothing_moves(self.backbone)}: give it a "
                "backbone that trains, or use modules.ProtoNet."
            )
        self.save_hyperparameters()
        self.eval_inner_lr, self.eval_inner_steps = eval_inner_lr, eval_inner_steps
        self.support_augmentation = support_augmentation

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Any]:
        """Fine-tunes the network; the states are `FineTuned`."""
        shared = {name: value for name, value in self.trainable(params).items() if name.startswith("network.")}
        newest: list[Tensor] = []  # prototypes, of the weights that a step begins with

        def support_loss(step: int, fast_params: Variables) -> Tensor:
            prototypes = self._prototypes(params | fast_params, task)
            newest[:] = [prototypes.detach()]
            images = self._changed(task, step) if self.support_augmentation.is_on else task.x
            embeddings = self.run(params | fast_params, "network", images)  # (T, S, D)
            logits = self.logits(params, embeddings, prototypes)  # (T, S, n_way)
            return self.objective.loss(logits, task.y).mean(1)  # (T,)

        if steps == 0:
            yield FineTuned({}, self._prototypes(params, task))
            return
        # A state waits until the step that begins with its weights has computed their prototypes.
        states = inner_loop(
            support_loss, for_each_task(shared, len(task.x)), adam(self.eval_inner_lr, beta1=0.9), steps
        )
        fast_params = next(states)
        for following in states:
            yield FineTuned(fast_params, newest[0])
            fast_params = following
        yield FineTuned(fast_params, self._prototypes(params | fast_params, task))

    def predict(self, params: Variables, state: FineTuned, query_x: Tensor) -> Tensor:  # type: ignore[override]
        """Logits (T, Q, n_way) by each task's weights and prototypes."""
        embeddings = self.run(params | state.fast_params, "network", query_x)  # (T, Q, D)
        return self.logits(params, embeddings, state.prototypes)

    def draw_noise(self, task_id: Tensor, n_support: int, steps: int) -> Tensor:
        """Returns what `support_augmentation` takes in each step, (T, steps, S, 8) in [0, 1)."""
        if steps == 0 or not self.support_augmentation.is_on:
            return super().draw_noise(task_id, n_support, steps)
        return draw(0, FINE_TUNING_STREAM, task_id, steps * n_support).unflatten(1, (steps, n_support))

    def protocol(self) -> dict[str, Any]:
        """Tells how the headline result was evaluated, as a result must state it."""
        protocol = {**super().protocol(), "inner_lr": self.eval_inner_lr}
        changes = self.support_augmentation
        return protocol | ({"support_augmentation": changes.describe()} if changes.is_on else {})

    def _prototypes(self, params: Variables, task: Task) -> Tensor:
        return class_means(self.run(params, "network", task.x), task.y, task.n_way)  # (T, n_way, D)

    def _changed(self, task: Task, step: int) -> Tensor:
        draws, changes = task.noise[:, step], self.support_augmentation  # (T, S, 8)
        return augment(task.x, draws_of_images(draws, task.y, changes), changes)
