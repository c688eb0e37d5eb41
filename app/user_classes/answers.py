"""`predict` on a user's own images: predictions.csv, a contact sheet, and what can be said of them in a few lines."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer

from app.runs.folder import RunFolder
from app.runs.prediction_rows import gather_predictions, write_predictions
from app.user_classes.answer import UNSURE, Answer
from app.user_classes.calibration import Calibration, calibration_for
from app.user_classes.contact_sheet import save_contact_sheets
from app.user_classes.likeness import UNLIKE, Likeness, likeness_for
from modules import Learner
from modules.learner.classifier import check_classes

if TYPE_CHECKING:
    from datamodules import SupportQuery

COMMANDS_THAT_ANSWER = ("predict", "export")  # they have the options of `Answers`
FEWEST_KNOWN = 5  # answers that say something of a share
NEVER = 1.1  # a threshold that no probability reaches
UNCONFIDENT = "not confident enough"  # why an answer is unsure; the other reason is `UNLIKE`


class Answers(Callback):
    """Writes what the learner says of a user's images.

    Args:
        accuracy: Answers are called sure from the confidence on from which this share of the answers for validation
            tasks is right.
        unsure_below: The confidence itself; None: as `accuracy` says.
        unlike_below: A query is unlike the training data, and unsure however confident its answer is, where its
            likeness is below this share: that of the validation queries that are at least as far from their support
            and from what is known. About so large a share of such images of new classes is called unlike; 0: none is.
    """

    def __init__(self, accuracy: float = 0.9, unsure_below: float | None = None, unlike_below: float = 0.01) -> None:
        if not 0 < accuracy <= 1:
            raise ValueError(f"answers.accuracy must be above 0 and at most 1, got {accuracy}.")
        if unsure_below is not None and not 0 <= unsure_below <= 1:
            raise ValueError(f"answers.unsure_below must be from 0 to 1, got {unsure_below}.")
        if not 0 <= unlike_below <= 1:
            raise ValueError(f"answers.unlike_below must be from 0 to 1, got {unlike_below}.")
        self.accuracy, self.unsure_below, self.unlike_below = accuracy, unsure_below, unlike_below
        self.run = RunFolder(Path())  # both set by the application
        self.checkpoint: dict[str, Any] = {}
        self.calibration: Calibration | None = None
        self.likeness: Likeness | None = None
        self._said: dict[int, tuple[list[float], float | None]] = {}  # by this rank, of each image

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: SupportQuery = trainer.datamodule  # type: ignore[attr-defined]
        if UNSURE in data.class_names:
            raise ValueError(f"a class cannot be called {UNSURE!r}, which stands for no answer: rename its folder.")
        learner = cast(Learner, pl_module)
        check_classes(learner, len(data.class_names))
        self.calibration = calibration_for(learner, self.checkpoint, len(data.class_names), min(data.class_sizes))
        self.likeness = likeness_for(learner, self.checkpoint, len(data.class_names), min(data.class_sizes))
        learner.temperature = 1.0 if self.calibration is None else self.calibration.temperature

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        first = int(batch.task_id)
        probabilities, likeness = outputs["answers"][0].tolist(), [None] * len(batch.query_x[0])
        if self.likeness is not None:
            likeness = self.likeness.of(cast(Learner, pl_module), batch.task, batch.query_x).tolist()
        self._said |= dict(enumerate(zip(probabilities, likeness, strict=True), start=first))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        said = gather_predictions(trainer, self._said)
        if said is not None:
            data: SupportQuery = trainer.datamodule  # type: ignore[attr-defined]
            self._write(data, said)

    def _write(self, data: "SupportQuery", said: dict[int, tuple[list[float], float | None]]) -> None:
        threshold, line = self._threshold(data)
        answers = [_answer(data, number, *told, threshold, self.unlike_below) for number, told in said.items()]
        path = write_predictions(self.run.path, *answer_table(answers, data.class_names))
        pages = save_contact_sheets(self.run.path / "contact_sheet.png", data.support_files, answers)
        print(line)
        print(self._line_of_likeness())
        print(f"{summary(answers)}: {path}")
        if warning := contradiction(answers, self.accuracy if self.unsure_below is None else 0.0):
            print(warning)
        print(f"contact sheet: {', '.join(str(page) for page in pages)}")

    def _line_of_likeness(self) -> str:
        """From which likeness on an image is like the training data, and where that comes from."""
        if self.likeness is None:
            return "no answer is unsure for an image unlike the training data: the validation tasks are not here"
        if self.unlike_below == 0:
            return "no answer is unsure for an image unlike the training data, as answers.unlike_below says"
        return (
            f"{UNLIKE}: images with a likeness below {self.unlike_below:g}, as measured on {self.likeness.n_tasks} "
            "validation tasks"
        )

    def _threshold(self, data: "SupportQuery") -> tuple[float, str]:
        """From which probability on an answer is sure, and the line that says why."""
        if self.unsure_below is not None:
            return self.unsure_below, f"sure from {self.unsure_below:g} on, as answers.unsure_below says"
        if self.calibration is None:
            return 0.0, (
                "every answer is called sure: the checkpoint has no calibration, which the end of `fit` gives to the "
                "best one, and the validation tasks are not here"
            )
        found = self.calibration.threshold(self.accuracy)
        tasks = f"{self.calibration.n_tasks} {self.calibration.shape} validation tasks"
        if found is None:
            return NEVER, f"no answer is called sure: on {tasks} no confidence made {self.accuracy:.0%} of them right"
        there = f"{self.calibration.share(found):.0%} of the answers for {tasks} are there"
        share = f"{there}, at least {self.accuracy:.0%} of them right"
        return found, f"sure from {found:.4f} on: {share} (images unlike those of the training may do worse)"


def _answer(
    data: "SupportQuery",
    number: int,
    probabilities: list[float],
    likeness: float | None,
    threshold: float,
    unlike_below: float,
) -> Answer:
    file = data.files[number]
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    guess, true = data.class_names[best], data.label_of(file)
    reasons = [UNLIKE] if likeness is not None and likeness < unlike_below else []
    reasons += [UNCONFIDENT] if probabilities[best] < threshold else []
    label, truth = UNSURE if reasons else guess, data.class_names[true] if true >= 0 else None
    original = data.copy_of.get(file)
    return Answer(file, label, guess, probabilities, truth, likeness, "; ".join(reasons), original)


def answer_table(answers: list[Answer], class_names: tuple[str, ...]) -> tuple[list[str], list[list[Any]]]:
    """The columns and rows of predictions.csv: what is said of each file, how sure that is, and the folder's class.

    The columns are file, label, guess, its probability, the likeness to the training data, why the label is unsure, and
    each class's probability; then the class in whose folder an image lies, where one lies in one, and the support image
    that it is a copy of, where one is.

    Args:
        answers: One row each.
        class_names: In the order of the probabilities.
    """
    known = any(answer.truth is not None for answer in answers)
    copies = any(answer.copy_of is not None for answer in answers)
    head = ["file", "label", "guess", "probability", "likeness", "reason"]
    each_class = [f"p({name})" for name in class_names]  # a class may be called "label"
    last = [name for name, there in (("folder", known), ("copy_of", copies)) if there]
    rows = []
    for answer in answers:
        highest, *each = [f"{p:.4f}" for p in (max(answer.probabilities), *answer.probabilities)]
        likeness = "" if answer.likeness is None else f"{answer.likeness:.4f}"
        truth = [answer.truth or ""] if known else []
        original = [answer.copy_of or ""] if copies else []
        told = [answer.file, answer.label, answer.guess, highest, likeness, answer.reason]
        rows.append([*told, *each, *truth, *original])
    return [*head, *each_class, *last], rows


def summary(answers: list[Answer]) -> str:
    """One line, e.g. `150 images, 112 sure and 38 unsure; 61.33% right, of the sure ones 74.11%`."""
    sure = [answer for answer in answers if answer.label != UNSURE]
    images = f"{len(answers):,} image{'s' if len(answers) > 1 else ''}"
    line = f"{images}, {len(sure):,} sure and {len(answers) - len(sure):,} unsure"
    unlike = sum(UNLIKE in answer.reason for answer in answers)
    line += f", of which {unlike:,} {'is' if unlike == 1 else 'are'} {UNLIKE}" if unlike else ""
    known, known_sure = ([a for a in group if a.counts] for group in (answers, sure))
    copies = sum(a.copy_of is not None for a in answers)
    if copies:
        line += f"; {copies:,} cop{'ies' if copies > 1 else 'y'} of support images, which prove nothing"
    if known:
        new = " that are no copies" if copies else ""
        of_all = "" if len(known) == len(answers) else f" of the {len(known):,} in folders of the classes{new}"
        line += f"; {_right(known):.2%}{of_all} right"
        line += f", of the sure ones {_right(known_sure):.2%}" if known_sure else ""
    return line


def contradiction(answers: list[Answer], promised: float) -> str | None:
    """A warning where sure answers, of images whose class is known, are right clearly less often than promised."""
    sure = [answer for answer in answers if answer.label != UNSURE and answer.counts]
    if len(sure) < FEWEST_KNOWN or _right(sure) >= promised - 2 * math.sqrt(promised * (1 - promised) / len(sure)):
        return None
    return (
        f"warning: only {_right(sure):.2%} of the sure answers are right, not {promised:.0%}: these images are unlike "
        "those of the training, so do not rely on what is called sure"
    )


def _right(answers: list[Answer]) -> float:
    return sum(answer.guess == answer.truth for answer in answers) / len(answers)
