"""A result states the tasks that were scored, and which drawing they come from."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from app.runs.results import RunFacts, collect_results, readable
from app.runs.task_scores import read_task_scores
from datamodules.tasks.sampling import DRAWS
from modules.learner.checkpoint_format import FORMAT
from modules.learner.scores import MeanScore, Score

RUN = Path("runs/maml_glyphs_5w1s/0")
LAST = RUN / "checkpoints" / "last.ckpt"
MANY = ("--data.evaluation.n_val_tasks=40", "--data.evaluation.n_test_tasks=50")  # more than a batch of 32
FACTS = RunFacts(0, None, "train.py test", "cpu", "32-true", 1.0, 1.0, 1)


@pytest.fixture
def trained(run, tiny):
    """A run of two steps, tested on one batch of its 50 test tasks."""
    ended = run("fit", *tiny, *MANY, "--trainer.max_steps=2", "--trainer.limit_test_batches=1")
    assert ended.code == 0, ended.err
    return ended


def results_in(folder: str) -> dict[str, Any]:
    return json.loads((RUN.parent / folder / "results.json").read_text())


def test_a_part_of_the_tasks_is_not_called_all_of_them(run, trained):
    results = results_in("0")
    assert (results["n_tasks"], results["draws"]) == (32, DRAWS)
    assert "(32 tasks, 5-way 1-shot, transductive)" in trained.out
    ended = run("validate", f"--ckpt_path={LAST}", "--trainer.limit_val_batches=1")
    assert "(32 tasks, 5-way 1-shot, transductive)" in ended.out
    assert results_in("validate_0")["n_tasks"] == 32
    with (RUN / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["val/n_tasks"] for row in rows if row["val/n_tasks"]] == ["40.0"]
    assert [row["test/n_tasks"] for row in rows if row["test/n_tasks"]] == ["32.0"]


def test_every_task_has_a_line_whose_mean_is_the_result(run, trained):
    tested = run("test", f"--ckpt_path={LAST}")
    assert tested.code == 0, tested.err
    scores, results = read_task_scores(RUN.parent / "test_0" / "scores.csv"), results_in("test_0")
    assert scores.task_id.tolist() == list(range(50))
    assert list(scores.scores) == ["loss", "accuracy", "accuracy_transductive", "accuracy_inductive"]
    for name, values in scores.scores.items():
        assert float(values.mean()) == pytest.approx(results[name], abs=1e-12)
    half_width = 1.96 * float(scores.scores["accuracy_inductive"].std()) / 50**0.5
    assert results["ci95_inductive"] == pytest.approx(half_width)
    of_fit = read_task_scores(RUN / "scores.csv")  # the first 32 of these tasks, by the best checkpoint
    assert of_fit.task_id.tolist() == list(range(32))
    assert not list(RUN.parent.glob("validate_*/scores.csv"))


def test_one_task_has_no_interval_and_no_task_no_result(run, trained):
    one = run("test", f"--ckpt_path={LAST}", "--data.evaluation.n_test_tasks=1", "--seed_everything=7")
    assert one.code == 0, one.err
    results = results_in("test_0")
    assert results["n_tasks"] == 1
    assert results["seed"] == 0  # of the training, whatever the test is told
    assert {name: results[name] for name in results if "ci95" in name} == {
        "ci95": None,
        "ci95_transductive": None,
        "ci95_inductive": None,
    }
    line = one.out.splitlines()[-2]
    assert "(1 task, 5-way 1-shot, transductive)" in line
    assert "+-" not in line
    header = (RUN.parent / "test_0" / "metrics.csv").read_text().splitlines()[0]
    assert "ci95" not in header

    none = run("test", f"--ckpt_path={LAST}", "--trainer.limit_test_batches=0")
    assert none.code == 0, none.err
    assert "No test task was scored: no results.json is written" in none.out
    assert not (RUN.parent / "test_1" / "results.json").exists()
    nothing = run("predict", f"--ckpt_path={LAST}", "--trainer.limit_predict_batches=0")
    assert "%" not in nothing.out


def test_a_fast_dev_run_leaves_no_result(run, tiny):
    ended = run("fit", *tiny, *MANY, "--trainer.fast_dev_run=true")
    assert ended.code == 0, ended.err
    assert "(32 tasks, " in ended.out
    assert ended.out.splitlines()[-1].endswith("no results.json is written.")
    assert list(Path("runs").rglob("results.json")) == []


@pytest.mark.parametrize("number", [None, 0, 2, "1"])
def test_a_checkpoint_of_another_format_is_refused_in_one_line(run, tiny, trained, number):
    for path in (RUN / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint.pop("format") == FORMAT
        torch.save(checkpoint if number is None else checkpoint | {"format": number}, path)
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file() and path.name != ".lock"}
    of_file = "its format is not numbered" if number is None else f"its format is {number!r}"
    resume = ("fit", *tiny, *MANY, "--trainer.max_steps=3")
    for command in (
        (*resume, f"--ckpt_path={LAST}"),
        (*resume, "--ckpt_path=last"),
        (*resume, "--resume=auto"),
        *((name, f"--ckpt_path={LAST}") for name in ("test", "validate", "predict")),
    ):
        ended = run(*command)
        assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1), ended.err
        assert f"{of_file}, and format {FORMAT} is read here: use the version" in ended.err
    assert before == {path: path.read_bytes() for path in before}
    assert {path.name for path in RUN.parent.iterdir()} == {"0"}


@pytest.mark.parametrize("option", ["--data.n_way=1", "--data.evaluation.n_way=1"])
def test_one_way_classification_is_refused(run, tiny, option):
    ended = run("fit", *tiny, option)
    assert ended.code == 1
    name = option.removeprefix("--data.").partition("=")[0]
    assert ended.err == f"error: {name} must be at least 2, got 1: with one class every answer is correct.\n"
    assert not RUN.exists()


def test_a_result_without_an_interval_says_only_its_score():
    found = {Score("accuracy"): 0.5, Score("accuracy", protocol="transductive"): 0.5}
    found[Score("accuracy", protocol="inductive")] = 0.25
    means = [MeanScore(score, value, None, 1) for score, value in found.items()]
    protocol = {"n_way": 5, "k_shot": 1, "transductive": True}
    results = collect_results("test", means, protocol, FACTS)
    assert (results["ci95"], results["ci95_inductive"], results["n_tasks"]) == (None, None, 1)
    assert readable(results) == "test accuracy 50.00% (1 task, 5-way 1-shot, transductive); 25.00% inductive"
