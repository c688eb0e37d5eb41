"""A run on functions: reports, pictures and checkpoints follow the data's objective, and a stopped one goes on."""

import csv
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from app.cli import main
from datamodules import Sinusoid
from datamodules.settings import Evaluation

CONFIG = Path(__file__).parents[2] / "configs" / "maml_sinusoid_10s.yaml"
SMALL = (
    "--trainer.accelerator=cpu",
    "--trainer.max_steps=8",
    "--trainer.val_check_interval=2",
    "--trainer.log_every_n_steps=1",
    "--data.meta_batch_size=2",
    "--data.evaluation.n_val_tasks=4",
    "--data.evaluation.n_test_tasks=6",
    "--model.backbone.widths=[8,8]",
)
FIT = ("fit", f"--config={CONFIG}", *SMALL)
RUN = Path("runs/maml_sinusoid_10s/0")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """A run of eight steps with W&B offline; training is done once for all tests here."""
    folder = tmp_path_factory.mktemp("trained")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setenv("WANDB_MODE", "offline")
    try:
        main(FIT)
    finally:
        patch.undo()
    run = folder / RUN
    return SimpleNamespace(run=run, results=json.loads((run / "results.json").read_text()))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def error_by_step(run: Path) -> dict[int, float]:
    """The validations' errors, by the number of steps before them."""
    return {int(row["step"]): float(row["val/mse"]) for row in rows_of(run / "metrics.csv") if row["val/mse"]}


def test_results_are_of_the_error(trained):
    results = trained.results
    assert results["objective"] == "regression"
    assert results["mse"] == results["loss"] > 0
    assert results["ci95"] > 0
    assert results["n_tasks"] == 6
    assert "accuracy" not in results
    assert list(results["adaptation_curve"]) == ["0", "1", "2", "3", "5", "10"]
    assert results["adaptation_curve"]["10"] == results["mse"]
    expected = {"data": "Sinusoid", "n_way": 1, "k_shot": 10, "n_query": 10, "protocol": "maml", "oracle": False}
    assert {name: results["protocol"][name] for name in expected} == expected


def test_metrics_file_has_train_and_validation_curves(trained):
    rows = rows_of(trained.run / "metrics.csv")
    assert [row["step"] for row in rows if row["train/mse"]] == [str(step) for step in range(1, 9)]
    assert list(error_by_step(trained.run)) == [2, 4, 6, 8]


def test_the_best_checkpoint_has_the_smallest_error(trained):
    errors = error_by_step(trained.run)
    best = min(errors, key=errors.__getitem__)
    assert [path.name for path in (trained.run / "checkpoints").glob("best*")] == [f"best-step={best}.ckpt"]
    assert trained.results["global_step"] == 8
    assert trained.results["checkpoint"].endswith(f"best-step={best}.ckpt")


def test_pictures_are_drawn_of_two_tasks(trained):
    from matplotlib.image import imread

    picture = imread(trained.run / "episodes" / "step-000002.png")  # (H, W, 4)
    height, width = picture.shape[:2]
    assert width > 1.5 * height
    colours = picture[..., :3].reshape(-1, 3)
    for half in (picture[:, : width // 2], picture[:, width // 2 :]):
        assert (np.abs(half[..., :3] - np.array([0xCF, 0x22, 0x2E]) / 255).max(-1) < 0.02).any(), "support points"
        assert (np.abs(half[..., :3] - np.array([0x05, 0x50, 0xAE]) / 255).max(-1) < 0.02).any(), "the last curve"
    assert (colours == 1).all(1).mean() > 0.5


def test_wandb_gets_the_error_and_its_adaptation_curve(trained, wandb_contents):
    _, history, summary = wandb_contents(next((trained.run / "wandb").glob("offline-run-*/*.wandb")))
    assert [row["trainer/global_step"] for row in history if "val/mse" in row] == [2, 4, 6, 8]
    assert any("val/episode/count" in row or "val/episode/_type" in row for row in history)
    curve = {row["test/inner_step"]: row["test/mse_after_inner_step"] for row in history if "test/inner_step" in row}
    assert curve == {int(step): value for step, value in trained.results["adaptation_curve"].items()}
    assert summary["test/mse"] == pytest.approx(trained.results["mse"])


def test_lines_show_the_error_and_the_smallest_is_the_best(run):
    ended = run(*FIT)
    assert ended.code == 0, ended.err
    errors = error_by_step(RUN)
    for step, error in errors.items():
        best = min(value for earlier, value in errors.items() if earlier <= step)
        assert f"val {error:.4f} (best {best:.4f})" in ended.out
    results = json.loads((RUN / "results.json").read_text())
    line = f"test mse {results['mse']:.4f} +- {results['ci95']:.4f} (6 tasks, 10-shot regression)"
    assert line in ended.out.splitlines()
    assert ended.err == ""  # nothing of a calibration that is not there


def test_test_needs_only_the_checkpoint(trained, run):
    ended = run("test", f"--ckpt_path={trained.run}", "--data.evaluation.n_test_tasks=6")
    assert ended.code == 0, ended.err
    results = json.loads(Path("runs/maml_sinusoid_10s/test_0/results.json").read_text())
    for name in ("mse", "ci95", "n_tasks", "protocol", "adaptation_curve", "objective"):
        assert results[name] == pytest.approx(trained.results[name]), name


def test_predictions_are_values_beside_the_true_ones(trained, run):
    ended = run("predict", f"--ckpt_path={trained.run}")
    assert ended.code == 0, ended.err
    rows = rows_of(Path("runs/maml_sinusoid_10s/predict_0/predictions.csv"))
    assert list(rows[0]) == ["task_id", "query", "x", "true_value", "predicted_value"]
    assert [(int(row["task_id"]), int(row["query"])) for row in rows] == [(t, q) for t in range(6) for q in range(10)]
    x, true, predicted = (
        torch.tensor([float(row[name]) for row in rows]).view(6, 10) for name in ("x", "true_value", "predicted_value")
    )
    episode = Sinusoid(evaluation=Evaluation()).episode("test", torch.arange(6))
    assert torch.allclose(x, episode.query_x[..., 0], rtol=1e-5)
    assert torch.allclose(true, episode.query_y, rtol=1e-5, atol=1e-6)
    error = float((predicted - true).square().mean())
    assert error == pytest.approx(trained.results["mse"], rel=1e-3)
    assert f"60 queries, mse {error:.4f}: " in ended.out


def test_a_run_that_was_stopped_goes_on_bitwise(run):
    assert run(*FIT, "--trainer.max_steps=3").code == 0
    ended = run(*FIT, "--ckpt_path=last")
    assert ended.code == 0, ended.err
    assert run(*FIT, "--trainer.default_root_dir=whole").code == 0
    states = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (RUN, Path("whole/maml_sinusoid_10s/0"))
    ]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert error_by_step(RUN) == error_by_step(Path("whole/maml_sinusoid_10s/0"))


def test_early_stopping_waits_for_a_smaller_error(trained, run):
    errors = list(error_by_step(trained.run).values())
    worse = [i for i in range(1, len(errors)) if errors[i] >= min(errors[:i])]
    assert run(*FIT, "--early_stopping.patience=1").code == 0
    assert list(error_by_step(RUN).values()) == errors[: worse[0] + 1 if worse else None]
    assert errors[1] < errors[0], "else a direction the other way round would stop there too"


def test_an_evaluation_that_diverges_stops_no_training(run):
    ended = run(*FIT, "--model.eval_inner_lr=1e6", "--episode_picture.every_n_validations=1")
    assert ended.code == 0, ended.err
    assert not any(np.isfinite(error) for error in error_by_step(RUN).values())
    assert list(error_by_step(RUN)) == [2, 4, 6, 8]
    assert len(list((RUN / "episodes").iterdir())) == 4


def test_explicit_settings_win(run):
    worst = ("--checkpoint.monitor=val/mse_after_0", "--checkpoint.mode=max")
    assert run(*FIT, *worst).code == 0
    before = {int(row["step"]): row["val/mse_after_0"] for row in rows_of(RUN / "metrics.csv") if row["val/mse"]}
    largest = max(before, key=lambda step: float(before[step]))
    assert [path.name for path in (RUN / "checkpoints").glob("best*")] == [f"best-step={largest}.ckpt"]


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("predict", ("--data=SupportQuery", "--data.support=."), "has learned regression, on Sinusoid, and SupportQ"),
        ("test", ("--data=Glyphs",), "has learned regression, on Sinusoid, and Glyphs is classification: set --data"),
        ("export", ("--data=SupportQuery", "--data.support=."), "export writes classifiers, and the checkpoint has"),
        ("export", (), "export writes classifiers, and the checkpoint has learned regression: set --ckpt_path"),
    ],
)
def test_what_is_of_classes_alone_is_refused(trained, run, command, options, words):
    ended = run(command, f"--ckpt_path={trained.run}", *options)
    assert ended.code == 2
    assert words in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--model=ProtoNet",),
            "ProtoNet is a method of classification, but Sinusoid's tasks are regression",
        ),
        (
            ("--model=MAML",),
            "takes inputs of shape (1, 28, 28), but Sinusoid gives (1,): set model.backbone to mod",
        ),
        (
            ("--model=MAML", "--model.backbone=MLP", "--data.oracle=true"),
            "takes inputs of shape (1,), but Sinusoid gives (3,): set model.backbone to modules.MLP, and its input_",
        ),
    ],
)
def test_what_does_not_fit_functions_is_refused(run, options, words):
    ended = run("fit", "--config=none.yaml", "--data=Sinusoid", *options)
    assert ended.code == 1
    assert words in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.fixture(autouse=True)
def empty_configuration(tmp_path: Path) -> None:
    """A configuration file, so that the default one, of images, is not taken."""
    content: dict[str, Any] = {"trainer": {"max_steps": 2, "accelerator": "cpu"}}
    (tmp_path / "none.yaml").write_text(json.dumps(content))
    assert os.environ.get("QUICKSTUDY_DEBUG") is None
