"""What learners share that train by classifying labelled examples, and learn a new task on the features."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from datamodules.episode import Episode
from modules.functional.tasks.networks import Variables
from modules.learner.learner import Learner
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive


class ExampleLearner(Learner):
    """Trains its network as an ordinary classifier of all training classes; a method says how a task is learned.

    A training batch holds groups of labelled examples, whose batch statistics are a group's. The head, with a row for
    each training class, is made when training begins, as only the data know how many there are. It is of no use for new
    classes: `adapt` and `predict` leave it alone.

    Args:
        network: The embedding.
        outer: The outer loop.
        group_size: Labelled examples of a group: with a `meta_batch_size` of 1 the batch size.
    """

    trains_on: Literal["tasks", "examples"] = "examples"
    training_loss = "class_loss"
    objectives = ("classification",)
    default_backbone: ClassVar[dict[str, Any]] = {"downsample": "pool", "reduce": "flatten", "running_stats": True}

    def __init__(self, network: nn.Module, outer: OuterLoop, group_size: int) -> None:
        check_positive(group_size=group_size)
        super().__init__(network, outer)
        self.group_size = group_size
        self.n_train_classes: int | None = None  # rows of the head; None before there is one

    def make_head(self, n_classes: int) -> nn.Module:
        """Makes a classifier from features (B, D) to logits (B, n_classes); its weights have a row for each class."""
        raise NotImplementedError

    def query_loss(self, params: Variables, episode: Episode) -> tuple[Tensor, Tensor]:
        """The loss of classifying each group's examples, (T,); and the logits of all training classes, (T, B, C)."""
        logits = self.run(params, "head", self.run(params, "network", episode.query_x))  # (T, B, C)
        return self.objective.loss(logits, episode.query_y).mean(1), logits

    def training_metrics(self, losses: Tensor, outputs: Tensor, episode: Episode) -> dict[str, Tensor]:
        """The loss and the accuracy among all training classes; no task is adapted to, so that there is no other."""
        accuracy = self.objective.score(outputs, episode.query_y).mean()
        return {self.training_loss: losses.mean(), f"class_{self.objective.score_name}": accuracy}

    def trial(self, params: Variables, episode: Episode) -> None:
        """Computes a group in training, and one inner step and a prediction in evaluation."""
        if self.training:
            self.query_loss(params, episode)
        else:
            super().trial(params, episode)

    def make_for(self, data: Any) -> None:
        """Makes the head, unless there is one of as many classes."""
        if getattr(data, "has_examples", False) and self.n_train_classes != data.n_train_classes:
            self._set_head(data.n_train_classes)

    def setup(self, stage: str) -> None:
        """Makes the head where training begins, and takes the objective from the data."""
        if stage == "fit":
            self.make_for(getattr(self.trainer, "datamodule", None))
        super().setup(stage)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Makes a head of the size that the checkpoint's has.

        Raises:
            ValueError: If the checkpoint is to be trained on, and the data have another number of training classes.
        """
        sizes = [len(value) for name, value in checkpoint["state_dict"].items() if name.startswith("head.")]
        if sizes and sizes[0] != self.n_train_classes:
            if self.n_train_classes is not None and self._trainer and self._trainer.state.fn == "fit":
                raise ValueError(
                    f"the checkpoint was trained on {sizes[0]:,} classes, and the data have {self.n_train_classes:,}: "
                    "fit without ckpt_path to begin anew, or give the data that it was trained on."
                )
            self._set_head(sizes[0])
        super().on_load_checkpoint(checkpoint)

    def _set_head(self, n_classes: int) -> None:
        like = next(self.network.parameters(), torch.empty(0))
        self.head, self.n_train_classes = self.make_head(n_classes).to(like), n_classes
