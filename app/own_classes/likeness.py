"""How like the training data a query is: measured on validation tasks, kept in the checkpoint, used by `predict`."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from app.errors import one_line
from app.own_classes.calibration import validation_data
from datamodules import EpisodeDataModule
from datamodules.episode import Support
from datamodules.progress import say
from modules import Learner
from modules.functional.likeness import distance_to_known, share_as_far
from modules.likeness import LikenessFeatures, State

KEY = "likeness"  # a checkpoint's
IMAGES = 2000  # about so many are looked at
FEWEST_TASKS, MOST_TASKS = 20, 400
UNLIKE = "unlike the training data"  # why an answer is unsure


@dataclass(frozen=True)
class Likeness:
    """What validation tasks say of the distances that a query has from its support.

    Args:
        features: What `LikenessFeatures` needs.
        distances: (N,) of the validation queries.
        n_tasks: Tasks that were looked at.
        n_way: Classes of a task.
        k_shot: Support examples of each class.
    """

    features: State
    distances: Tensor
    n_tasks: int
    n_way: int
    k_shot: int

    def of(self, learner: Learner, support: Support, queries: Tensor) -> Tensor:
        """The share of validation queries that are at least as far from their support as each query.

        Args:
            learner: With the weights that it was measured with.
            support: One task: images (1, S, C, H, W) in [0, 1] and labels (1, S).
            queries: (1, Q, C, H, W) in [0, 1].

        Returns:
            (Q,) in [0, 1]; 0: farther than all.
        """
        known, asked = LikenessFeatures(learner, self.features)(support.x[0], queries[0])
        distances = distance_to_known(asked, known)
        return share_as_far(distances.cpu(), self.distances)


@torch.no_grad()
def measure_likeness(learner: Learner, data: EpisodeDataModule) -> Likeness:
    """Learns the features of half of some validation tasks and takes the distances of the other half.

    Args:
        learner: A trained one, on its device.
        data: Its data, set up.
    """
    shape = data.shapes["val"]
    images_each = shape.n_way * (shape.k_shot + shape.n_query)
    n_tasks = max(FEWEST_TASKS, min(MOST_TASKS, 2 * IMAGES // images_each, data.evaluation.n_val_tasks))
    episodes = [data.episode("val", torch.tensor([task])) for task in range(n_tasks)]
    tasks = [(episode.support_x[0], episode.query_x[0]) for episode in episodes]
    features = LikenessFeatures(learner)
    features.learn(tasks[::2])
    white = [features(*task) for task in tasks[1::2]]
    distances = torch.cat([distance_to_known(asked, known).cpu() for known, asked in white])
    return Likeness(features.state(), distances.sort().values, n_tasks, shape.n_way, shape.k_shot)


def stored_likeness(checkpoint: dict[str, Any]) -> Likeness | None:
    """The one that a checkpoint carries; None where it was saved by a run that did not end, or before there was one."""
    return Likeness(**checkpoint[KEY]) if KEY in checkpoint else None


def likeness_for(learner: Learner, checkpoint: dict[str, Any], n_way: int, k_shot: int) -> Likeness | None:
    """The checkpoint's, or one of the validation tasks; None where it has none and they are not here.

    Where the support set normalises, tasks of another size give other distances: then the validation tasks are asked
    anew, if they are here.

    Args:
        learner: With the checkpoint's weights.
        checkpoint: What was loaded.
        n_way: Classes.
        k_shot: Support examples of each class.
    """
    stored = stored_likeness(checkpoint)
    fits = stored is not None and (stored.n_way, stored.k_shot) == (n_way, k_shot)
    if fits or (stored is not None and not learner.sees_other_queries):
        return stored
    try:
        return measure_likeness(learner, validation_data(checkpoint, n_way, k_shot))
    except (OSError, ValueError, RuntimeError) as error:
        how = "not compared" if stored is None else f"compared as in {stored.n_way}-way {stored.k_shot}-shot tasks"
        say(f"{how} with the training data: {one_line(error)}")
        return stored


def as_stored(likeness: Likeness) -> dict[str, Any]:
    """As a checkpoint keeps it: names, numbers and tensors."""
    return asdict(likeness)
