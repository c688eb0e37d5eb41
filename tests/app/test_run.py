"""One run from its start to its reports: the folder, the results, and what a checkpoint is good for."""

import csv
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from app.cli import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """A run of eight steps with W&B offline; training is done once for all tests here."""
    folder = tmp_path_factory.mktemp("trained")
    before, mode = Path.cwd(), os.environ.get("WANDB_MODE")
    os.chdir(folder)
    os.environ["WANDB_MODE"] = "offline"
    try:
        main(
            [
                "fit",
                "--trainer.accelerator=cpu",
                "--trainer.max_steps=8",
                "--trainer.val_check_interval=4",
                "--trainer.log_every_n_steps=1",
                "--data.meta_batch_size=2",
                "--data.evaluation.n_val_tasks=4",
                "--data.evaluation.n_test_tasks=6",
                "--model.backbone.filters=4",
            ]
        )
    finally:
        os.chdir(before)
        os.environ.pop("WANDB_MODE")
        if mode is not None:
            os.environ["WANDB_MODE"] = mode
    run = folder / "runs" / "maml_glyphs_5w1s" / "0"
    return SimpleNamespace(root=folder, run=run, best=next((run / "checkpoints").glob("best*.ckpt")))


def read_metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_folder_holds_everything(trained):
    names = {path.name for path in trained.run.iterdir()} - {".lock"}
    assert names == {
        "config.yaml",
        "metrics.csv",
        "checkpoints",
        "results.json",
        "scores.csv",
        "episodes",
        "wandb",
        "wandb_id",
    }
    assert (trained.run / "checkpoints" / "last.ckpt").is_file()
    assert trained.best.name in ("best-step=4.ckpt", "best-step=8.ckpt")
    assert (trained.run / "episodes" / "step-000004.png").read_bytes().startswith(b"\x89PNG")


def test_metrics_file_has_train_and_validation_curves(trained):
    rows = read_metrics(trained.run)
    assert [row["step"] for row in rows if row["train/loss"]] == [str(step) for step in range(1, 9)]
    assert [row["step"] for row in rows if row["val/accuracy"]] == ["4", "8"]
    assert all(float(row["train/tasks_per_second"]) > 0 for row in rows if row["train/loss"])


def test_results_state_what_they_depend_on(trained):
    results = json.loads((trained.run / "results.json").read_text())
    assert 0 <= results["accuracy"] <= 1
    assert results["ci95"] > 0
    assert results["n_tasks"] == 6
    expected = {"n_way": 5, "k_shot": 1, "n_query": 5, "inner_steps": 3, "transductive": True}
    assert {name: results["protocol"][name] for name in expected} == expected
    assert not {"way", "shot", "query", "steps"} & results["protocol"].keys()
    assert results["accuracy"] == results["accuracy_transductive"]
    assert results["accuracy_inductive"] != results["accuracy_transductive"]
    assert results["global_step"] == 8
    assert results["checkpoint"].endswith(trained.best.name)
    assert results["versions"]["torch"] == torch.__version__
    assert results["wall_time"] > 0
    assert results["tasks_per_second"] == pytest.approx(16 / results["wall_time"], rel=0.2)


def test_checkpoint_loads_without_executing_anything(trained):
    checkpoint = torch.load(trained.run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 8
    assert checkpoint["hyper_parameters"]["_class_path"] == "modules.MAML"
    assert checkpoint["datamodule_hyper_parameters"]["_class_path"] == "datamodules.Glyphs"


def test_test_needs_only_the_checkpoint(trained, run):
    ended = run("test", f"--ckpt_path={trained.best}")
    assert ended.code == 0, ended.err
    results = json.loads(Path("runs/maml_glyphs_5w1s/test_0/results.json").read_text())
    expected = json.loads((trained.run / "results.json").read_text())
    for name in ("accuracy", "ci95", "accuracy_inductive", "n_tasks", "protocol", "adaptation_curve", "wall_time"):
        assert results[name] == pytest.approx(expected[name]), name
    assert (
        f"test accuracy {results['accuracy']:.2%} +- {results['ci95']:.2%} (6 tasks, 5-way 1-shot, transductive)"
        in ended.out
    )
    assert ended.err == ""


def test_command_line_overrides_the_checkpoint(trained, run):
    ended = run("test", f"--ckpt_path={trained.run}", "--data.init_args.evaluation.n_test_tasks=9", "--data.k_shot=2")
    assert ended.code == 0, ended.err
    assert "(9 tasks, 5-way 2-shot, transductive)" in ended.out


def test_validate_repeats_the_validation_of_training(trained, run):
    ended = run("validate", f"--ckpt_path={trained.run}/checkpoints/last.ckpt")
    assert ended.code == 0, ended.err
    results = json.loads(Path("runs/maml_glyphs_5w1s/validate_0/results.json").read_text())
    last = [row for row in read_metrics(trained.run) if row["val/accuracy"]][-1]
    assert results["accuracy"] == pytest.approx(float(last["val/accuracy"]))


def test_predictions_name_the_classes(trained, run):
    ended = run("predict", f"--ckpt_path={trained.best}")
    assert ended.code == 0, ended.err
    folder = Path("runs/maml_glyphs_5w1s/predict_0")
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 25
    assert [row["query"] for row in rows[:25]] == [str(query) for query in range(25)]
    inductive = json.loads((trained.run / "results.json").read_text())["accuracy_inductive"]
    right = sum(row["true_class"] == row["predicted_class"] for row in rows) / len(rows)
    assert right == pytest.approx(inductive)
    assert all(0.2 <= float(row["probability"]) <= 1 for row in rows)
    assert {path.name for path in folder.iterdir()} <= {"predictions.csv", "config.yaml", "metrics.csv"}


def test_config_of_a_run_repeats_it(trained, run, monkeypatch):
    ended = run("fit", f"--config={trained.run}/config.yaml", "--trainer.logger=false")
    assert ended.code == 0, ended.err
    first = torch.load(trained.run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    again = torch.load("runs/maml_glyphs_5w1s/0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(first[name], again[name]) for name in first)
    config = yaml.safe_load((trained.run / "config.yaml").read_text())
    assert config["model"]["init_args"]["backbone"]["init_args"]["filters"] == 4
    assert "ckpt_path" not in config


def test_wandb_gets_configuration_curves_and_result(trained, wandb_contents):
    path = next((trained.run / "wandb").glob("offline-run-*/*.wandb"))
    config, history, summary = wandb_contents(path)
    assert config["model"] == "modules.MAML"
    assert config["model/inner_lr"] == 0.4
    assert config["model/backbone/filters"] == 4
    assert config["data/evaluation/n_test_tasks"] == 6
    assert config["trainer/max_steps"] == 8
    train = {row["trainer/global_step"]: row["train/loss"] for row in history if "train/loss" in row}
    assert sorted(train) == list(range(1, 9))
    assert [row["trainer/global_step"] for row in history if "val/accuracy_after_0" in row] == [4, 8]
    assert any("val/episode/count" in row or "val/episode" in row for row in history)
    results = json.loads((trained.run / "results.json").read_text())
    assert summary["test/accuracy"] == pytest.approx(results["accuracy"])
    assert summary["test/protocol/n_way"] == 5
    assert f"run-{(trained.run / 'wandb_id').read_text().strip()}.wandb" == path.name
