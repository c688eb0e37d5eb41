"""scores.csv and the paired difference of two of them."""

import errno
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from app.runs.task_scores import (
    PairedDifference,
    difference_text,
    main,
    paired_difference,
    read_task_scores,
    write_task_scores,
)

FIRST = "task,accuracy,loss\r\n0,0.5,1.0\r\n1,0.25,2.0\r\n2,1.0,0.5\r\n"


def scores_file(path: Path, numbers: list[int], accuracy: list[float]) -> Path:
    write_task_scores(path, numbers, {"accuracy": accuracy})
    return path


def test_a_line_a_task_with_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    accuracy = torch.tensor([0.1, 1.0, 1 / 3])  # float32
    write_task_scores(path, torch.tensor([12, 3, 5]), {"accuracy": accuracy, "loss": [1 / 3, math.nan, 1e-30]})
    assert path.read_bytes() == (
        b"task,accuracy,loss\r\n3,1.0,nan\r\n5,0.3333333432674408,1e-30\r\n"
        b"12,0.10000000149011612,0.3333333333333333\r\n"
    )
    found = read_task_scores(path)
    assert found.task_id.tolist() == [3, 5, 12]
    assert torch.equal(found.scores["accuracy"].float(), accuracy[[1, 2, 0]])
    assert found.scores["loss"][[1, 2]].tolist() == [1e-30, 1 / 3]
    assert list(found.scores) == ["accuracy", "loss"]


def test_a_task_that_comes_again_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    write_task_scores(path, torch.tensor([0, 2, 1, 0]), {"mse": torch.tensor([0.5, 2.0, 1.0, 0.25])})
    assert path.read_text().split() == ["task,mse", "0,0.5", "1,1.0", "2,2.0"]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"accuracy": [0.5]}, "accuracy has 1 values for 2 tasks: give one for each task"),
        ({"task": [0.5, 0.5]}, "a score cannot be called 'task'"),
    ],
)
def test_what_is_not_a_score_of_each_task_is_refused(tmp_path: Path, scores: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_task_scores(tmp_path / "scores.csv", [0, 1], scores)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = scores_file(tmp_path / "scores.csv", [0], [0.5])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        scores_file(path, [0], [1.0])
    assert [found.read_text().split() for found in tmp_path.iterdir()] == [["task,accuracy", "0,0.5"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file "),
        (b"", "has no column 'task'"),
        (b"number,accuracy\n0,0.5\n", "has no column 'task'"),
        (b"task\n0\n", "must have a column 'task', one for each score, and a line for each task"),
        (b"task,accuracy\n", "must have a column 'task', one for each score, and a line for each task"),
        (b"task,accuracy,accuracy\n0,1,1\n", "must have a column 'task', one for each score, and a line for each task"),
        (b"task,accuracy\n0,0.5\n1,half\n", "line 3: '1,half' is not a task and its"),
        (b"task,accuracy\n0.5,0.5\n", "line 2: '0.5,0.5' is not a task and its"),
        (b"task,accuracy\n0,0.5\n1\n", "line 3: '1' is not a task and its"),
        (b"task,accuracy\n0,0.5,7\n", "line 2: '0,0.5,7' is not a task and its"),
        (b"task,accuracy\n0,0.5\n0,0.5\n", "line 3: 0 stands there twice"),
        (b"task,accuracy\n-1,0.5\n", "line 2: -1 is no task number"),
        (b"task,accuracy\n99999999999999999999,0.5\n", "is no task number"),
        (b"\xff\xfe\x00", "cannot read "),
        (b"task,accuracy\n0,0.5\n\n1,0.5\n", "line 3: '' is not a task and its"),
    ],
)
def test_a_file_of_anything_else_is_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "scores.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_task_scores(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file_of_scores(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read "):
        read_task_scores(tmp_path)


def test_the_difference_is_that_of_paired_samples(tmp_path: Path) -> None:
    """NumPy gives mean and standard error, also from the covariance; the files hold the tasks in different orders."""
    rng = np.random.default_rng(0)
    difficulty, numbers = rng.normal(0.7, 0.1, 500), rng.permutation(10_000)[:500]
    ours, theirs = difficulty + rng.normal(0.02, 0.03, 500), difficulty + rng.normal(0, 0.03, 500)
    order = rng.permutation(500)
    first = scores_file(tmp_path / "first.csv", numbers.tolist(), ours.tolist())
    second = tmp_path / "second.csv"
    lines = [f"{numbers[i]},{float(theirs[i])!r}" for i in order]
    second.write_text("\n".join(["task,accuracy", *lines]) + "\n")

    found = paired_difference(first, second)
    assert found.n_tasks == 500
    assert found.ci95 is not None
    assert found.mean == pytest.approx(np.mean(ours - theirs), rel=1e-12)
    assert found.ci95 == pytest.approx(1.96 * np.std(ours - theirs, ddof=1) / math.sqrt(500), rel=1e-12)
    covariance = np.cov(ours, theirs)  # (2, 2)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert found.ci95 == pytest.approx(1.96 * math.sqrt(variance / 500), rel=1e-9)
    assert found.ci95 < 1.96 * math.sqrt((covariance[0, 0] + covariance[1, 1]) / 500) / 2
    reverse = paired_difference(second, first)
    assert (reverse.mean, reverse.ci95) == pytest.approx((-found.mean, found.ci95))


def test_one_task_has_no_interval_and_a_file_equals_itself(tmp_path: Path) -> None:
    one = scores_file(tmp_path / "one.csv", [7], [0.5])
    other = scores_file(tmp_path / "other.csv", [7], [0.75])
    assert paired_difference(one, other) == (-0.25, None, 1)
    several = scores_file(tmp_path / "several.csv", [0, 1, 2], [0.5, 0.1, 0.3])
    assert paired_difference(several, several) == (0, 0, 3)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (
            [0, 1, 2, 5],
            "has 3 and .*other.csv has 4, of which 1 is in one of the two only, first task 5 in .*other.csv",
        ),
        ([1], "has 3 and .*other.csv has 1, of which 2 are in one of the two only, first task 0 in .*first.csv"),
        ([3, 4, 5], "has 3 and .*other.csv has 3, of which 6 are in one of the two only, first task 0 in .*first.csv"),
    ],
)
def test_other_tasks_are_refused(tmp_path: Path, numbers: list[int], message: str) -> None:
    first = scores_file(tmp_path / "first.csv", [0, 1, 2], [0.5, 0.5, 0.5])
    other = scores_file(tmp_path / "other.csv", numbers, [0.5] * len(numbers))
    with pytest.raises(ValueError, match=message):
        paired_difference(first, other)


def test_a_score_that_a_file_does_not_have_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    write_task_scores(first, [0], {"accuracy": [1.0], "loss": [0.5]})
    write_task_scores(second, [0], {"mse": [1.0], "loss": [0.5]})
    with pytest.raises(
        ValueError, match=r"no score 'accuracy' in .*second.csv: .*first.csv has accuracy, loss; .* mse"
    ):
        paired_difference(first, second)
    with pytest.raises(ValueError, match=r"no score 'mrr' in .*first.csv and .*second.csv: "):
        paired_difference(first, second, "mrr")
    assert paired_difference(first, second, "loss").mean == 0


@pytest.mark.parametrize(
    ("difference", "score", "text"),
    [
        ((0.0125, 0.004, 1000), "accuracy", "+1.25% +- 0.40% (1,000 tasks)"),
        ((-0.0125, 0.004, 600), "accuracy_inductive", "-1.25% +- 0.40% (600 tasks)"),
        ((-0.0125, 0.004, 600), "mse", "-0.0125 +- 0.0040 (600 tasks)"),
        ((0.00002, 0.004, 600), "loss", "+2.00e-05 +- 0.0040 (600 tasks)"),
        ((0.5, None, 1), "loss_inductive", "+0.5000 (1 task)"),
        ((math.nan, math.nan, 2), "accuracy", "nan% +- nan% (2 tasks)"),
    ],
)
def test_a_difference_is_written_as_its_score_is(difference: tuple, score: str, text: str) -> None:
    assert difference_text(PairedDifference(*difference), score) == text


def test_the_command_prints_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_bytes(FIRST.encode())
    Path("b.csv").write_bytes(FIRST.replace("0.25,2.0", "0.5,1.5").encode())
    main(["a.csv", "b.csv"])
    assert capsys.readouterr().out == "accuracy: a.csv - b.csv = -8.33% +- 16.33% (3 tasks)\n"
    main(["a.csv", "b.csv", "--score", "loss"])
    assert capsys.readouterr().out == "loss: a.csv - b.csv = +0.1667 +- 0.3267 (3 tasks)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.csv", "nowhere.csv"], "error: there is no file nowhere.csv."),
        (["a.csv", "a.csv", "--score=mse"], "error: there is no score 'mse' in a.csv"),
        (["a.csv"], "error: the following arguments are required: SECOND"),
        (["a.csv", "a.csv", "--scor", "x", "--y"], "error: unrecognized arguments: --y"),
    ],
)
def test_a_wrong_command_is_one_line(tmp_path, monkeypatch, capsys, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_bytes(FIRST.encode())
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(message)
    assert (printed.err.count("\n"), printed.out) == (1, "")


def test_a_score_that_is_not_finite_has_no_difference(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    write_task_scores(first, [4, 7], {"accuracy": [0.5, math.nan], "loss": [1.0, 2.0]})
    write_task_scores(second, [4, 7], {"accuracy": [0.5, 0.25], "loss": [1.5, math.inf]})
    for score in ("accuracy", "loss"):
        with pytest.raises(ValueError, match=rf"^{score} of task 7 is not a finite number in .*a.csv or .*b.csv"):
            paired_difference(first, second, score)
    second.write_bytes(b"\xef\xbb\xbf" + first.read_bytes())  # as spreadsheets save it
    assert read_task_scores(second).task_id.tolist() == [4, 7]
