"""What follows the objective of the data: metrics that are watched, their directions, and how a score is written."""

import json

import pytest

from app.checkpoints.what_is_trained import what_is_trained
from app.runs.early_stopping import EarlyStopping
from app.runs.results import objective_of, readable, write_results
from app.runs.run_checkpoint import RunCheckpoint
from app.runs.score_text import score_text
from datamodules.objective import CLASSIFICATION, REGRESSION


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.01234, "0.0123"),
        (3.0, "3.0000"),
        (3.21e-5, "3.21e-05"),
        (0.0, "0.0000"),
        (12.3, "12.3000"),
        (1.6e23, "1.60e+23"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_an_error_keeps_its_digits(value, text):
    assert score_text(value, REGRESSION) == text


def test_an_accuracy_is_a_percentage():
    assert score_text(0.93123, CLASSIFICATION) == "93.12%"
    assert score_text(0.93123, CLASSIFICATION, decimals=1) == "93.1%"
    assert score_text(float("nan"), CLASSIFICATION) == "nan%"


def test_a_line_of_regression_states_both_protocols_where_they_differ():
    results = {"split": "test", "objective": "regression", "n_tasks": 600, "protocol": {"k_shot": 10, "n_way": 1}}
    results |= {"mse": 0.0123, "ci95": 0.001}
    assert readable(results) == "test mse 0.0123 +- 0.0010 (600 tasks, 10-shot regression)"
    both = {"mse_transductive": 0.02, "ci95_transductive": 0.01, "mse_inductive": 0.0123, "ci95_inductive": 0.001}
    assert readable(results | both) == (
        "test mse 0.0123 +- 0.0010 (600 tasks, 10-shot regression, inductive); 0.0200 +- 0.0100 transductive"
    )


def test_results_of_earlier_versions_are_of_classification():
    results = {"split": "val", "n_tasks": 5, "protocol": {"n_way": 5, "k_shot": 1}, "accuracy": 0.5, "ci95": 0.1}
    assert objective_of(results) is CLASSIFICATION
    assert readable(results) == "val accuracy 50.00% +- 10.00% (5 tasks, 5-way 1-shot, inductive)"


def test_a_line_leaves_out_a_size_that_the_protocol_does_not_state():
    results = {"split": "test", "n_tasks": 5, "protocol": {}, "accuracy": 0.5, "ci95": 0.1, "mse": 0.5}
    assert readable(results) == "test accuracy 50.00% +- 10.00% (5 tasks, inductive)"
    assert readable(results | {"objective": "regression"}) == "test mse 0.5000 +- 0.1000 (5 tasks, regression)"


@pytest.mark.parametrize("kind", [RunCheckpoint, EarlyStopping])
def test_metric_and_direction_follow_the_data_where_they_are_not_set(kind):
    for objective, expected in ((CLASSIFICATION, ("val/accuracy", "max")), (REGRESSION, ("val/mse", "min"))):
        callback = kind()
        callback.follow(objective)
        assert (callback.monitor, callback.mode) == expected
        callback = kind(monitor="val/loss", mode="min")
        callback.follow(objective)
        assert (callback.monitor, callback.mode) == ("val/loss", "min")


@pytest.mark.parametrize("objective", [CLASSIFICATION, REGRESSION])
def test_the_first_score_is_an_improvement_and_min_delta_counts_towards_it(objective):
    stopping = EarlyStopping(patience=3, min_delta=0.1)
    stopping.follow(objective)
    assert bool(stopping.monitor_op(0.5 * stopping.best_score.new_ones(()), stopping.best_score))
    assert stopping.min_delta == (0.1 if objective.higher_is_better else -0.1)


def test_a_run_that_watches_another_score_is_another_run():
    unset = {"checkpoint": {"monitor": None, "mode": None}, "early_stopping": {"monitor": None}}
    other = {"checkpoint": {"monitor": "val/loss", "mode": None}, "early_stopping": {"monitor": None}}
    assert what_is_trained(other) != what_is_trained(unset)


def test_results_of_a_diverged_evaluation_are_still_json(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, {"mse": float("inf"), "adaptation_curve": {"1": float("nan"), "0": 2.5}, "n_tasks": 4})
    strict = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert strict == {"mse": None, "adaptation_curve": {"1": None, "0": 2.5}, "n_tasks": 4}
