"""How sure a learner's answers are: calibrated on validation tasks, kept in the checkpoint, used by `predict`."""

import inspect
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.cli import instantiate_module
from torch import Tensor

from app.checkpoints.file import AtomicCheckpoints, load_sound
from app.process.errors import one_line
from datamodules import EpisodeDataModule
from datamodules.episode import Episode
from datamodules.progress import say
from modules import Learner
from modules.backbones.trained_images import TRAINED_CLASSES, images_of
from modules.functional.calibration import fit_temperature, sure_above
from modules.learner.class_paths import ARGUMENTS, CLASS, check_classes, known_class
from modules.learner.classifier import Classifier

KEY = "calibration"
ANSWERS = 3000  # about so many are looked at
FEWEST_TASKS = 30
CALIBRATION_QUERIES = 5  # of each class
BINS = 400  # of the answers' confidence, as a checkpoint keeps them


@dataclass(frozen=True)
class Calibration:
    """What validation tasks say of a learner's answers.

    Args:
        temperature: What its logits are divided by.
        right: For each bin of confidence, of equal width from 0 to 1, how many answers are right.
        wrong: How many are wrong.
        n_tasks: Tasks that were looked at.
        n_way: Classes of a task.
        k_shot: Support examples of each class.
    """

    temperature: float
    right: list[int]
    wrong: list[int]
    n_tasks: int
    n_way: int
    k_shot: int

    def threshold(self, accuracy: float) -> float | None:
        """The confidence from which on a share `accuracy` of the answers is right; None where there is none."""
        edges = torch.arange(BINS, dtype=torch.float64) / BINS
        right, wrong = torch.tensor(self.right), torch.tensor(self.wrong)
        confidence = edges.repeat_interleave(right + wrong)
        correct = torch.cat([torch.arange(r + w) < r for r, w in zip(self.right, self.wrong, strict=True)])
        return sure_above(confidence, correct, accuracy)

    def share(self, threshold: float) -> float:
        """The share of all answers whose confidence is the threshold's or more."""
        counts = [right + wrong for right, wrong in zip(self.right, self.wrong, strict=True)]
        return sum(counts[round(threshold * BINS) :]) / sum(counts)

    @property
    def shape(self) -> str:
        """The tasks, for a reader."""
        return f"{self.n_way}-way {self.k_shot}-shot"


@torch.no_grad()
def calibrate(learner: Learner, data: EpisodeDataModule) -> Calibration:
    """Adapts to validation tasks and compares how sure the answers are with how often they are right.

    Args:
        learner: A trained one, on its device.
        data: Its data, set up.

    Returns:
        Of the classifiers that a user is handed: inductive ones.
    """
    shape = data.shapes["val"]
    n_tasks = min(data.evaluation.n_val_tasks, max(FEWEST_TASKS, ANSWERS // (shape.n_way * shape.n_query)))
    logits, labels = [], []
    for task in range(n_tasks):
        episode = data.episode("val", torch.tensor([task]))  # drawn where the images are: they may not fit the device
        episode = learner.embedded(_like(next(learner.parameters()), episode))
        classifier = Classifier(learner, episode.task)
        logits.append(classifier.logits(episode.query_x)[0].cpu())  # (Q, n_way)
        labels.append(episode.query_y[0].cpu())
    return calibration_of(torch.cat(logits), torch.cat(labels), n_tasks, shape.n_way, shape.k_shot)


def _like(weight: Tensor, episode: Episode) -> Episode:
    """The episode on a weight's device, its inputs in the weight's precision."""
    return episode.map(lambda values: values.to(weight.device)).map_inputs(lambda x: x.to(weight))


def calibration_of(logits: Tensor, labels: Tensor, n_tasks: int, n_way: int, k_shot: int) -> Calibration:
    """From all tasks' logits (N, n_way) and labels (N,)."""
    temperature = fit_temperature(logits, labels)
    confidence, answer = (logits.double() / temperature).softmax(-1).max(-1)  # (N,), (N,)
    number = (confidence * BINS).long().clamp(max=BINS - 1)
    correct = answer == labels
    right = torch.bincount(number[correct], minlength=BINS).tolist()
    wrong = torch.bincount(number[~correct], minlength=BINS).tolist()
    return Calibration(temperature, right, wrong, n_tasks, n_way, k_shot)


def add_to_checkpoint(path: Path, calibration: Calibration, further: dict[str, Any] | None = None) -> None:
    """Puts a calibration, and what else was measured by then, into a checkpoint, which is replaced whole."""
    AtomicCheckpoints().save_checkpoint({**load_sound(path), KEY: asdict(calibration), **(further or {})}, path)


def calibration_for(learner: Learner, checkpoint: dict[str, Any], n_way: int, k_shot: int) -> Calibration | None:
    """The calibration for tasks of a size: the checkpoint's where it is of that size, else from the validation tasks.

    Args:
        learner: With the checkpoint's weights.
        checkpoint: What was loaded.
        n_way: Classes.
        k_shot: Support examples of each class.

    Returns:
        Where the validation images are not on this machine the checkpoint's, whatever its size; None if it has none.
    """
    stored = stored_calibration(checkpoint)
    if stored is not None and (stored.n_way, stored.k_shot) == (n_way, k_shot):
        return stored
    try:
        return calibrate(learner, validation_data(checkpoint, n_way, k_shot))
    except (OSError, ValueError, RuntimeError) as error:  # not here, or without such tasks
        say(f"not calibrated for {n_way}-way {k_shot}-shot tasks: {one_line(error)}")
        return stored


def validation_data(checkpoint: dict[str, Any], n_way: int, k_shot: int) -> EpisodeDataModule:
    """The checkpoint's data, set up, with validation tasks of a size.

    Raises:
        ValueError, OSError or RuntimeError: If they are not here, or without such tasks.
    """
    data = _validation_data(checkpoint["datamodule_hyper_parameters"], n_way, k_shot)
    data.prepare_data()
    data.setup("predict")
    data.check_unseen(checkpoint.get(TRAINED_CLASSES, []), ("val",), images_of(checkpoint))
    return data


def _validation_data(arguments: dict[str, Any], n_way: int, k_shot: int) -> EpisodeDataModule:
    """The checkpoint's data, with validation tasks of another size; nothing is downloaded."""
    evaluation = arguments["evaluation"]
    size = {"n_way": n_way, "k_shot": k_shot, "n_query": CALIBRATION_QUERIES}
    asked = {name: value for name, value in arguments.items() if name != "_instantiator"}
    asked |= {"evaluation": (evaluation if isinstance(evaluation, dict) else asdict(evaluation)) | size}
    config = {CLASS: asked["_class_path"], ARGUMENTS: {k: v for k, v in asked.items() if not k.startswith("_")}}
    check_classes("data", config, (EpisodeDataModule,))
    kind = known_class("data", asked["_class_path"], (EpisodeDataModule,))
    asked |= {"download": False} if "download" in inspect.signature(kind).parameters else {}
    data: EpisodeDataModule = instantiate_module(EpisodeDataModule, asked)
    data.stage = "predict"  # training's tasks are not drawn
    return data


def stored_calibration(checkpoint: dict[str, Any]) -> Calibration | None:
    """The one that a checkpoint carries; None where it was saved by a run that did not end."""
    return Calibration(**checkpoint[KEY]) if KEY in checkpoint else None
