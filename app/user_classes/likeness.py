"""The likeness of a query to the training data: measured on validation tasks, kept in checkpoints, for `predict`."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from app.process.errors import one_line
from app.user_classes.calibration import validation_data
from datamodules import EpisodeDataModule
from datamodules.episode import Episode, Task
from datamodules.progress import say
from modules import Learner
from modules.functional.likeness import distance_to_known, share_as_far
from modules.learner.likeness import LikenessFeatures, Maps, State

KEY = "likeness"  # a checkpoint's
IMAGES = 2000  # about so many are looked at
FEWEST_TASKS, MOST_TASKS = 20, 400
PARTS = 10  # of the validation classes, each left out once
UNLIKE = "unlike the training data"  # why an answer is unsure


@dataclass(frozen=True)
class Likeness:
    """The distances that queries of validation tasks have from their support.

    Args:
        features: What `LikenessFeatures` needs.
        distances: (N,) of the validation queries, where their classes' images had no part in the features.
        n_tasks: Tasks that were looked at.
        n_way: Classes of a task.
        k_shot: Support examples of each class.
    """

    features: State
    distances: Tensor
    n_tasks: int
    n_way: int
    k_shot: int

    def of(self, learner: Learner, task: Task, queries: Tensor) -> Tensor:
        """The share of validation queries that are at least as far from their support as each query.

        Args:
            learner: With the weights that it was measured with.
            task: One task: images (1, S, C, H, W) in [0, 1] and labels (1, S).
            queries: (1, Q, C, H, W) in [0, 1].

        Returns:
            (Q,) in (0, 1]; one over their number and one: farther than all.
        """
        known, asked = LikenessFeatures(learner, self.features)(task.x[0], queries[0])
        distances = distance_to_known(asked, known)
        return share_as_far(distances.cpu(), self.distances)


class _Seen(NamedTuple):
    """A validation task as the features see it; the classes are the bank's."""

    known: Maps  # of the support set
    known_class: Tensor  # (S,)
    asked: Maps  # of the queries
    asked_class: Tensor  # (Q,)


@torch.no_grad()
def measure_likeness(learner: Learner, data: EpisodeDataModule) -> Likeness:
    """Learns what is expected of an image from validation tasks, and what distances new classes have.

    A user's classes had no part in what is expected. So the distances are those of classes left out: a part of the
    classes at a time, their queries compared with what the images of the others alone lead to expect.

    Args:
        learner: A trained one, on its device.
        data: Its data, set up.

    Raises:
        ValueError: If the validation tasks show one class only, or none.
    """
    shape = data.shapes["val"]
    images_each = shape.n_way * (shape.k_shot + shape.n_query)
    n_tasks = max(FEWEST_TASKS, min(MOST_TASKS, 2 * IMAGES // images_each, data.evaluation.n_val_tasks))
    features = LikenessFeatures(learner)
    tasks = [_seen(features, data.episode("val", torch.tensor([task]))) for task in range(n_tasks)]
    classes = torch.cat([task.asked_class for task in tasks]).unique()  # sorted: those of one script side by side
    if len(classes) < 2:
        raise ValueError("likeness is measured on classes left out, and the validation tasks show fewer than two.")
    distances = [_left_out(features, tasks, part) for part in classes.tensor_split(min(PARTS, len(classes)))]
    features.learn(maps for task in tasks for maps in (task.known, task.asked))
    return Likeness(features.state(), torch.cat(distances).sort().values, n_tasks, shape.n_way, shape.k_shot)


def _seen(features: LikenessFeatures, episode: Episode) -> _Seen:
    known, asked = features.maps(episode.task.x[0], episode.query_x[0])
    classes = episode.task.classes[0].cpu()
    return _Seen(known, classes[episode.task.y[0].long().cpu()], asked, classes[episode.query_y[0].long().cpu()])


def _left_out(features: LikenessFeatures, tasks: list[_Seen], part: Tensor) -> Tensor:
    """The distances (N,) of the queries of some classes, where only the others' images are known."""
    pairs = [pair for t in tasks for pair in ((t.known, t.known_class), (t.asked, t.asked_class))]
    features.learn(_rows(maps, ~torch.isin(classes, part)) for maps, classes in pairs)
    distances = []
    for task in tasks:
        left_out = torch.isin(task.asked_class, part)
        if left_out.any():
            asked = features.whitened(_rows(task.asked, left_out))
            distances.append(distance_to_known(asked, features.whitened(task.known)).cpu())
    return torch.cat(distances)


def _rows(maps: Maps, chosen: Tensor) -> Maps:
    return {name: values[chosen.to(values.device)] for name, values in maps.items()}


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


def likeness_of_run(learner: Learner, data: EpisodeDataModule) -> dict[str, Any]:
    """A checkpoint's entry, measured on the validation tasks; none, and a line, where it cannot be measured.

    Args:
        learner: A trained one, on its device.
        data: Its data, set up.
    """
    try:
        return {KEY: as_stored(measure_likeness(learner, data))}
    except ValueError as error:
        say(f"warning: not compared with the training data: {one_line(error)}")
        return {}
