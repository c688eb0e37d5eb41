"""What is measured of a task, and its mean over the tasks of an evaluation."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from modules.learner.ranks import gathered
from modules.learner.task_mean import TaskMean

N_TASKS = "n_tasks"
Protocol = Literal["transductive", "inductive"]


class Score(NamedTuple):
    """What a number is a score of. Its name in metrics.csv and W&B is made here alone, and never taken apart.

    Attributes:
        name: "accuracy", "loss", ...
        after_step: The inner steps after which it was measured; None: all of them.
        protocol: How queries were normalised; None: as the learner's `transductive` says.
    """

    name: str
    after_step: int | None = None
    protocol: Protocol | None = None

    @property
    def label(self) -> str:
        """The name in files and dashboards, e.g. "accuracy", "accuracy_after_3" or "accuracy_inductive".

        Example:
            >>> Score("accuracy", after_step=3).label
            'accuracy_after_3'
        """
        step = "" if self.after_step is None else f"_after_{self.after_step}"
        return self.name + step + (f"_{self.protocol}" if self.protocol else "")

    @property
    def has_interval(self) -> bool:
        """Tells whether the interval of its mean is told: not of losses, nor of the steps on the way."""
        return self.after_step is None and self.name != "loss"

    def interval_label(self, main: str) -> str:
        """The name of its interval's half-width: "ci95" of the evaluation's main score, and so by each protocol.

        Args:
            main: The name of the main score, e.g. "accuracy".
        """
        name = "ci95" if self.name == main else f"ci95_{self.name}"
        return name + (f"_{self.protocol}" if self.protocol else "")


class MeanScore(NamedTuple):
    """A score's mean over an evaluation's tasks.

    Attributes:
        score: What was measured.
        value: The mean.
        ci95: The half-width of the mean's 95% interval; None of a single task.
        n_tasks: The tasks, over all ranks.
    """

    score: Score
    value: float
    ci95: float | None
    n_tasks: int


class TaskScores:
    """The scores of the tasks of an evaluation, on one rank, and their means over the tasks of all ranks.

    Args:
        device: Where the sums are kept.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._means: dict[Score, TaskMean] = {}
        self._task_id: list[Tensor] = []
        self._values: list[dict[Score, Tensor]] = []

    def update(self, task_id: Tensor, scores: dict[Score, Tensor]) -> None:
        """Adds tasks.

        Args:
            task_id: (T,) int64.
            scores: (T,) each; the same scores in every call.
        """
        for score, values in scores.items():
            self._mean_of(score).update(values)
        self._task_id.append(task_id)
        self._values.append({score: values for score, values in scores.items() if score.after_step is None})

    def means(self) -> list[MeanScore]:
        """Returns the means over all ranks' tasks; a rank that has seen no task has the same ones."""
        names: list[Score] = list(dict.fromkeys(Score(*s) for rank in gathered(list(self._means)) for s in rank))
        found = []
        for score in names:
            mean = self._mean_of(score)
            value, half_width = mean.compute()
            found.append(MeanScore(score, float(value), float(half_width) if mean.counted > 1 else None, mean.counted))
        return found

    def of_tasks(self) -> tuple[list[int], dict[str, list[float]]]:
        """Returns every task's scores after all inner steps, of all ranks.

        Returns:
            The task numbers in ascending order, and for each score's label a value for each of them.
        """
        mine = {}
        for task_id, scores in zip(self._task_id, self._values, strict=True):
            columns = {score.label: values.tolist() for score, values in scores.items()}
            for row, task in enumerate(task_id.tolist()):
                mine[task] = {label: values[row] for label, values in columns.items()}
        rows = dict(sorted((task, row) for rank in gathered(mine) for task, row in rank.items()))
        labels = list(next(iter(rows.values()))) if rows else []
        return list(rows), {label: [row[label] for row in rows.values()] for label in labels}

    def _mean_of(self, score: Score) -> TaskMean:
        if score not in self._means:
            self._means[score] = TaskMean().to(self.device)
        return self._means[score]


def logged(prefix: str, means: list[MeanScore], main: str, device: torch.device) -> dict[str, Tensor]:
    """Names means for the loggers: PREFIX/NAME, the intervals of scores after all steps and PREFIX/n_tasks.

    Args:
        prefix: "val" or "test".
        means: What `TaskScores.means` gave.
        main: The name of the main score, e.g. "accuracy".
        device: Of the values, () each.
    """
    values: dict[str, float] = {}
    for score, value, ci95, n_tasks in means:
        values[f"{prefix}/{score.label}"] = value
        values[f"{prefix}/{N_TASKS}"] = n_tasks
        if ci95 is not None and score.has_interval:
            values[f"{prefix}/{score.interval_label(main)}"] = ci95
    return {name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in values.items()}
