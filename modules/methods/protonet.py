"""Prototypical networks."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from datamodules.episode import Episode, Task
from modules.backbones.backbone import Backbone
from modules.backbones.conv4 import Conv4
from modules.backbones.wrapped_module import as_backbone
from modules.functional.prototypes import class_means, cosine_similarity, squared_euclidean
from modules.functional.tasks.networks import Variables
from modules.learner.learner import Learner
from modules.learner.outer_loop import OuterLoop

INITIAL_SCALE = 10.0  # of cosines


class ProtoNet(Learner):
    """Classifies a query by its closeness to the mean embedding of each class's support examples.

    Any number of classes, in training and after; with a backbone of running statistics its answers are inductive.

    Args:
        backbone: The embedding; None: Conv4 with max-pooling, flattened, running statistics, for 28x28 greyscale.
        outer: The outer loop.
        distance: "euclidean": logits are minus the squared distances; "cosine": cosines times a learned scale, which a
            frozen backbone needs to have anything to learn.

    Reference:
        Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, Algorithm 1. Cosines and
        their scale, which begins at 10: Gidaris and Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting",
        CVPR 2018, and Hu et al., "Pushing the Limits of Simple Pipelines for Few-Shot Learning", CVPR 2022.

    Checked:
        reference: plain loops over classes and queries.
    """

    objectives = ("classification",)  # prototypes are those of classes
    default_backbone: ClassVar[dict[str, Any]] = {"downsample": "pool", "reduce": "flatten", "running_stats": True}

    def __init__(
        self,
        backbone: Backbone | None = None,
        outer: OuterLoop = OuterLoop(schedule="step"),
        distance: Literal["euclidean", "cosine"] = "euclidean",
    ) -> None:
        default = Conv4(**self.default_backbone) if backbone is None else backbone
        embedding = as_backbone(default)
        super().__init__(embedding, outer)
        self.save_hyperparameters()
        self.input_shape, self.distance = embedding.input_shape, distance
        if distance == "cosine":
            self.scale = nn.Parameter(torch.tensor(INITIAL_SCALE))

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Tensor]:
        """The one state is the prototypes, (T, n_way, D), equation (1)."""
        yield class_means(self.run(params, "network", task.x), task.y, task.n_way)

    def predict(self, params: Variables, state: Tensor, query_x: Tensor) -> Tensor:
        """Logits (T, Q, n_way), equation (2)."""
        return self.logits(params, self.run(params, "network", query_x), state)

    def logits(self, params: Variables, embeddings: Tensor, prototypes: Tensor) -> Tensor:
        """Logits (T, Q, n_way) of embedded queries (T, Q, D) by their closeness to prototypes (T, n_way, D)."""
        if self.distance == "cosine":
            return params["scale"] * cosine_similarity(embeddings, prototypes)
        return -squared_euclidean(embeddings, prototypes)

    def query_loss(self, params: Variables, episode: Episode) -> tuple[Tensor, Tensor]:
        """In training support and query are embedded as one batch, normalised together, as in the authors' code."""
        n_support = episode.task.x.shape[1]
        images = torch.cat([episode.task.x, episode.query_x], dim=1)  # (T, S + Q, C, H, W)
        embeddings = self.run(params, "network", images)  # (T, S + Q, D)
        prototypes = class_means(embeddings[:, :n_support], episode.task.y, episode.task.n_way)
        logits = self.logits(params, embeddings[:, n_support:], prototypes)  # (T, Q, n_way)
        return self.objective.loss(logits, episode.query_y).mean(1), logits
