"""How long a run is, and which of its checkpoints is tested: a longer one goes on with its beginning."""

import csv
import json
from pathlib import Path

import pytest
import torch

RUNS = Path("runs/maml_glyphs_5w1s")
RUN = RUNS / "0"
WHOLE = Path("whole/maml_glyphs_5w1s/0")
AUTO = "--resume=auto"


def weights_and_metrics(folder: Path) -> tuple[dict[str, torch.Tensor], str]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if "tasks_per_second" not in k} for row in csv.DictReader(file)]
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"], json.dumps(rows)


def test_a_longer_run_goes_on_with_its_beginning(run, fitted, tiny):
    fitted(*tiny, "--trainer.default_root_dir=whole")
    fitted(*tiny, "--trainer.max_steps=2")
    ended = run("fit", *tiny, AUTO)
    assert "Resuming runs/maml_glyphs_5w1s/0 from step 2: trainer.max_steps 2 -> 4." in ended.out
    (weights, rows), (expected, expected_rows) = weights_and_metrics(RUN), weights_and_metrics(WHOLE)
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    assert rows == expected_rows


def test_of_several_beginnings_the_longest_is_gone_on_with(run, tiny):
    for steps in (4, 2):
        assert run("fit", *tiny, f"--trainer.max_steps={steps}").code == 0
    ended = run("fit", *tiny, "--trainer.max_steps=6", AUTO)
    assert "Resuming runs/maml_glyphs_5w1s/0 from step 4: trainer.max_steps 4 -> 6." in ended.out


def test_a_longer_run_whose_step_sizes_are_others_is_its_own(run, tiny):
    linear = (*tiny, "--model.outer.schedule=linear")
    assert run("fit", *linear, "--trainer.max_steps=2").code == 0
    assert run("fit", *linear, AUTO).code == 0
    assert sorted(path.name for path in RUNS.iterdir()) == ["0", "1"]


@pytest.mark.parametrize("tested", ["best", "last"])
def test_fit_tests_the_checkpoint_that_is_asked_for(run, tiny, tested):
    lost = (*tiny, "--model.outer.lr=0.3", "--trainer.max_steps=8")  # so that the last is not the best
    ended = run("fit", *lost, f"--checkpoint.tested={tested}")
    assert ended.code == 0
    best = next((RUN / "checkpoints").glob("best-*"))
    assert best.name != "best-step=8.ckpt"
    results = json.loads((RUN / "results.json").read_text())
    assert results["checkpoint"].endswith("last.ckpt" if tested == "last" else best.name)
    of_the_folder = run("test", "--ckpt_path", str(RUN))
    assert of_the_folder.out.splitlines()[0] == ended.out.splitlines()[-2]
    calibrated = [
        "calibration" in torch.load(path, weights_only=True) for path in (best, RUN / "checkpoints/last.ckpt")
    ]
    assert calibrated == [tested == "best", tested == "last"]


def test_a_result_names_the_commits_that_trained(run, tiny, monkeypatch):
    last = (*tiny, "--checkpoint.tested=last")
    for commit, steps in (("first", 2), ("first", 4), ("second", 6)):
        monkeypatch.setattr("app.runs.files.commit", lambda commit=commit: commit)
        assert run("fit", *last, f"--trainer.max_steps={steps}", AUTO).code == 0
    parts = [{"commit": commit, "torch": torch.__version__, "device": "cpu"} for commit in ("first", "second")]
    assert json.loads((RUN / "results.json").read_text())["trained_by"] == parts
    monkeypatch.setattr("app.runs.files.commit", lambda: "third")
    assert run("fit", *last, "--trainer.max_steps=6", AUTO).code == 0  # nothing is left to train
    assert json.loads((RUN / "results.json").read_text())["trained_by"] == parts
    assert run("test", "--ckpt_path", str(RUN / "checkpoints" / "last.ckpt")).code == 0
    assert json.loads((RUNS / "test_0" / "results.json").read_text())["trained_by"] == parts
