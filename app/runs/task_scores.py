"""scores.csv, a line a task, and the paired difference of two such files: `python -m app.runs.task_scores A B`."""

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from app.files.atomic_file import write_atomically
from app.process.errors import UsageError, one_line_errors
from app.runs.score_text import score_text
from datamodules.objective import CLASSIFICATION, OBJECTIVES, REGRESSION, Objective

TASK = "task"  # the column of the task numbers


class TaskTable(NamedTuple):
    """The scores of N tasks.

    Args:
        task_id: (N,) int64, ascending, each number once.
        scores: Name -> (N,) float64, in the order of the columns.
    """

    task_id: Tensor
    scores: dict[str, Tensor]


class PairedDifference(NamedTuple):
    """The mean, over tasks, of the difference of two scores of the same task.

    Args:
        mean: The mean difference, the first minus the second.
        ci95: The half-width of its 95% interval, 1.96 * s / sqrt(n); None where there is one task.
        n_tasks: The number of tasks, n.
    """

    mean: float
    ci95: float | None
    n_tasks: int


def write_task_scores(
    path: Path, task_id: Tensor | Sequence[int], scores: Mapping[str, Tensor | Sequence[float]]
) -> None:
    """Writes scores.csv atomically: a line a task, by ascending number, each score with all its digits.

    Args:
        path: The file.
        task_id: (N,) int64. Where a number is repeated, as a sampler does to fill the ranks' last batches, its first
            place counts.
        scores: Name -> (N,), in the order of the columns.

    Raises:
        ValueError: If a score has fewer or more values than there are tasks, or is called "task".
        OSError: If the disk is full or fails; the file that was there before is still there.
    """
    if TASK in scores:
        raise ValueError(f"a score cannot be called {TASK!r}: that is the column of the task numbers.")
    numbers = _listed(task_id)
    values = {name: _listed(of_tasks) for name, of_tasks in scores.items()}
    for name, of_tasks in values.items():
        if len(of_tasks) != len(numbers):
            raise ValueError(f"{name} has {len(of_tasks):,} values for {len(numbers):,} tasks: give one for each task.")
    place = {number: i for i, number in reversed(list(enumerate(numbers)))}
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([TASK, *values])
    for number in sorted(place):
        writer.writerow([number, *(repr(float(of_tasks[place[number]])) for of_tasks in values.values())])
    write_atomically(path, text.getvalue())


def _listed(values: Tensor | Sequence[float]) -> list[Any]:
    return values.tolist() if isinstance(values, Tensor) else list(values)


def read_task_scores(path: Path) -> TaskTable:
    """Reads what `write_task_scores` wrote.

    Raises:
        ValueError: If there is no such file, or it holds anything else; names the file and the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head, *lines = list(csv.reader(file)) or [[]]
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read {path} as scores of tasks ({error}).") from error
    if TASK not in head:
        raise ValueError(f"{path} has no column {TASK!r}: it is not a file of the scores of tasks.")
    names = [name for name in head if name != TASK]
    if not names or not lines or len(set(head)) < len(head):
        raise ValueError(f"{path} must have a column {TASK!r}, one for each score, and a line for each task.")
    tasks: dict[int, dict[str, float]] = {}
    for number, line in enumerate(lines, start=2):
        try:
            fields = dict(zip(head, line, strict=True))
            task = int(fields[TASK])
            values = {name: float(fields[name]) for name in names}
        except ValueError:
            raise ValueError(f"{path}, line {number}: {','.join(line)!r} is not a task and its {names}.") from None
        if task in tasks or not 0 <= task < 2**63:
            wrong = "stands there twice" if task in tasks else "is no task number"
            raise ValueError(f"{path}, line {number}: {task} {wrong}.")
        tasks[task] = values
    task_id = sorted(tasks)
    columns = {name: [tasks[task][name] for task in task_id] for name in names}
    return TaskTable(
        torch.tensor(task_id), {name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items()}
    )


def paired_difference(first: Path, second: Path, score: str = "accuracy") -> PairedDifference:
    """Compares two evaluations on the same tasks, task by task.

    How hard a task is adds to both scores and cancels in their difference: its interval is the narrower, the more the
    two evaluations agree on which tasks are hard.

    Args:
        first: A file that `write_task_scores` wrote.
        second: Another one, of the same tasks.
        score: A column of both.

    Raises:
        ValueError: If a file cannot be read, the tasks differ, or a file has no such score.
    """
    ours, theirs = read_task_scores(first), read_task_scores(second)
    _check_score(score, (first, ours), (second, theirs))
    _check_tasks((first, ours), (second, theirs))
    difference = ours.scores[score] - theirs.scores[score]  # (N,)
    n_tasks = len(difference)
    if not difference.isfinite().all():
        wrong = int(ours.task_id[~difference.isfinite()][0])
        raise ValueError(
            f"{score} of task {wrong} is not a finite number in {first} or {second}: there is no difference."
        )
    ci95 = None if n_tasks == 1 else 1.96 * float(difference.std()) / n_tasks**0.5
    return PairedDifference(float(difference.mean()), ci95, n_tasks)


def _check_score(score: str, *files: tuple[Path, TaskTable]) -> None:
    missing = [path for path, found in files if score not in found.scores]
    if missing:
        known = "; ".join(f"{path} has {', '.join(found.scores)}" for path, found in files)
        raise ValueError(f"there is no score {score!r} in {' and '.join(map(str, missing))}: {known}.")


def _check_tasks(*files: tuple[Path, TaskTable]) -> None:
    (first, ours), (second, theirs) = ((path, set(found.task_id.tolist())) for path, found in files)
    if other := ours ^ theirs:
        lowest = min(other)
        raise ValueError(
            f"the tasks differ: {first} has {len(ours):,} and {second} has {len(theirs):,}, of which {len(other):,} "
            f"{'is' if len(other) == 1 else 'are'} in one of the two only, first task {lowest} in "
            f"{first if lowest in ours else second}: score both on the same tasks."
        )


def difference_text(found: PairedDifference, score: str) -> str:
    """E.g. "+1.25% +- 0.40% (1,000 tasks)", of an error "-0.0123 +- 0.0040 (600 tasks)".

    Args:
        found: The difference.
        score: The score's name, which decides whether it is written in percent.
    """
    objective = objective_of_score(score)
    mean = ("+" if found.mean >= 0 else "") + score_text(found.mean, objective)
    interval = "" if found.ci95 is None else f" +- {score_text(found.ci95, objective)}"
    return f"{mean}{interval} ({found.n_tasks:,} task{'' if found.n_tasks == 1 else 's'})"


def objective_of_score(score: str) -> Objective:
    """The objective by which a score is written: "accuracy_inductive" in percent, "mse", "loss" and others as numbers.

    A name begins with its objective's score, as "accuracy_transductive" does.
    """
    of_name = {objective.score_name: objective for objective in OBJECTIVES.values()}
    return of_name.get(score.partition("_")[0], REGRESSION)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the paired difference of two files in a line."""
    parser = _Parser(prog="python -m app.runs.task_scores", description="Compares two evaluations task by task.")
    parser.add_argument("first", type=Path, metavar="FIRST", help="scores.csv of an evaluation")
    parser.add_argument("second", type=Path, metavar="SECOND", help="that of another one, on the same tasks")
    parser.add_argument("--score", default=CLASSIFICATION.score_name, help="a column of both; default: %(default)s")
    with one_line_errors():
        chosen = parser.parse_args(arguments)
        try:
            found = paired_difference(chosen.first, chosen.second, chosen.score)
        except ValueError as error:
            raise UsageError(error) from error
        print(f"{chosen.score}: {chosen.first} - {chosen.second} = {difference_text(found, chosen.score)}")


if __name__ == "__main__":
    main()
