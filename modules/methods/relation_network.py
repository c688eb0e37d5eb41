"""Relation networks: a learned comparison of a query's feature maps with those of each class."""

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.episode import Episode, Task
from modules.backbones.backbone import Backbone
from modules.backbones.relation_embedding import RelationEmbedding, normalised_convolution
from modules.functional.prototypes import class_means
from modules.functional.tasks.networks import Variables
from modules.learner.learner import Learner
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive

SMALLEST_UNPADDED = 10  # pixels of the maps from which on the relation module's convolutions are not padded


class RelationNetwork(Learner):
    """Learns how alike two images are: a relation module looks at the feature maps of a query and of a class together.

    The maps of a class are the mean, or the sum, of those of its support images. Scores are trained to be 1 for the
    query's class and 0 for the others; logits are the scores before the sigmoid. Any number of classes. Where networks
    normalise by batch statistics, the relation module does so over all pairs of a task, so that the headline score is
    transductive; the test reports the inductive one too.

    Args:
        backbone: The feature maps, flattened; it says their `map_shape`. None: RelationEmbedding for 28x28 greyscale.
        hidden: Units between the relation module's maps and its score.
        shots: What stands for a class of several images: the "mean" of their maps, or the "sum", as in the paper. For
            classes of other numbers of images than `k_shot` the sum is the mean times `k_shot`, so that maps keep their
            size.
        k_shot: Support images of each class in training.
        transductive: Whether the headline score normalises a task's queries together.
        outer: The outer loop.

    Reference:
        Sung, Yang, Zhang, Xiang, Torr and Hospedales, "Learning to Compare: Relation Network for Few-Shot Learning",
        CVPR 2018, equations (1) and (2), and the authors' code. Deviations:
        convolutions have no bias, which batch normalisation takes out again; the gradient's norm is clipped for both
        networks together; images are not standardised.

    Checked:
        reference: a loop over all pairs, and ProtoNet where the comparison is a distance.
    """

    objectives = ("classification",)
    training_loss = "relation_mse"
    default_backbone_class: ClassVar[type[Backbone]] = RelationEmbedding

    def __init__(
        self,
        backbone: Backbone | None = None,
        hidden: int = 8,
        shots: Literal["mean", "sum"] = "mean",
        k_shot: int = 1,
        transductive: bool = True,
        outer: OuterLoop = OuterLoop(schedule="step", step_size=100_000, clip_norm=0.5),
    ) -> None:
        check_positive(hidden=hidden, k_shot=k_shot)
        if shots not in ("mean", "sum"):
            raise ValueError(f"shots must be mean or sum, got {shots!r}.")
        embedding = RelationEmbedding() if backbone is None else backbone
        map_shape = getattr(embedding, "map_shape", None)
        if map_shape is None:
            raise ValueError(
                f"RelationNetwork compares feature maps, and {type(embedding).__name__} gives none: set model.backbone "
                "to modules.RelationEmbedding, or to modules.Conv4 with reduce flatten."
            )
        super().__init__(embedding, outer)
        self.save_hyperparameters()
        self.input_shape, self.map_shape = embedding.input_shape, map_shape
        self.images = k_shot if shots == "sum" else 1  # that the maps of a class are as large as
        self.transductive = transductive
        by_batch = [layer.running_mean is None for layer in embedding.modules() if isinstance(layer, nn.BatchNorm2d)]
        self.relation = RelationModule(map_shape, hidden, running_stats=not any(by_batch))

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Tensor]:
        """The one state is each class's maps, (T, n_way, D)."""
        maps = self.run(params, "network", task.x)  # (T, S, D)
        yield self.images * class_means(maps, task.y, task.n_way)

    def predict(self, params: Variables, state: Tensor, query_x: Tensor) -> Tensor:
        """Logits (T, Q, n_way): the relation scores before the sigmoid."""
        queries = self.run(params, "network", query_x)  # (T, Q, D)
        (n_tasks, n_queries, _), n_way = queries.shape, state.shape[1]
        classes = state.to(queries.dtype).unsqueeze(1).expand(-1, n_queries, -1, -1)  # (T, Q, n_way, D)
        pairs = torch.stack([classes, queries.unsqueeze(2).expand_as(classes)], dim=3)  # (T, Q, n_way, 2, D)
        channels, height, width = self.map_shape
        pairs = pairs.reshape(n_tasks, n_queries * n_way, 2 * channels, height, width)
        return self.run(params, "relation", pairs).view(n_tasks, n_queries, n_way)

    def query_loss(self, params: Variables, episode: Episode) -> tuple[Tensor, Tensor]:
        """The mean squared error of the scores over queries and classes, equation (2), (T,); and the logits."""
        _, logits = super().query_loss(params, episode)
        wanted = functional.one_hot(episode.query_y, episode.task.n_way)  # (T, Q, n_way)
        return squared_error_of_scores(logits, wanted), logits


class RelationModule(nn.Module):
    """From the maps of a pair to a score before its sigmoid: two blocks of convolution and pooling, and two layers.

    Args:
        map_shape: (C, h, w) of one of the pair.
        hidden: Units before the score.
        running_stats: Whether batch normalisation keeps running statistics.
    """

    def __init__(self, map_shape: tuple[int, int, int], hidden: int, running_stats: bool) -> None:
        super().__init__()
        (channels, *sides), layers = map_shape, []
        padding = int(min(sides) < SMALLEST_UNPADDED)
        for before in (2 * channels, channels):
            layers += normalised_convolution(before, channels, padding, running_stats)
            sides = [side + 2 * padding - 2 for side in sides]
            if min(sides) > 1:
                layers.append(nn.MaxPool2d(2))
                sides = [side // 2 for side in sides]
        self.maps = nn.Sequential(*layers)
        self.score = nn.Sequential(nn.Linear(channels * math.prod(sides), hidden), nn.ReLU(), nn.Linear(hidden, 1))
        for layer in (self.score[0], self.score[2]):
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.ones_(layer.bias)

    def forward(self, pairs: Tensor) -> Tensor:
        """(B, 2 C, h, w) to (B, 1)."""
        scores: Tensor = self.score(self.maps(pairs).flatten(1))
        return scores


def squared_error_of_scores(logits: Tensor, wanted: Tensor) -> Tensor:
    """The squared error of sigmoid scores, a mean over queries and classes.

    Args:
        logits: (T, Q, N).
        wanted: (T, Q, N), 1 where the query is of the class, else 0.

    Returns:
        (T,), in float32 at least.

    Example:
        >>> squared_error_of_scores(torch.zeros(1, 2, 2), torch.tensor([[[1, 0], [0, 1]]])).tolist()
        [0.25]
    """
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
    return (scores - wanted).square().mean((1, 2))
