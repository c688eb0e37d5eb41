"""W&B is on by default and can never stop a run."""

import csv
import socket
from pathlib import Path
from typing import Any

import pytest
import wandb
from pytorch_lightning import Callback

from app.dashboards.wandb_login import _reachable, wandb_mode
from app.dashboards.wandb_run import RunDashboard, columns, start_wandb
from app.runs.throughput import Throughput

RUN = Path("runs/maml_glyphs_5w1s/0")


def steps_of(history: list[dict[str, Any]]) -> list[int]:
    return [row["trainer/global_step"] for row in history if "train/loss" in row]


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine where nobody is logged in; returns the netrc file that is read."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DISABLED", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def test_offline_without_a_login(nobody):
    assert wandb_mode() == "offline"


@pytest.mark.parametrize("reachable", [True, False])
def test_online_with_a_login_and_a_network(nobody, monkeypatch, reachable):
    nobody.write_text("machine api.wandb.ai login user password 0123456789abcdef\n")
    monkeypatch.setattr("app.dashboards.wandb_login._reachable", lambda url: reachable)
    assert wandb_mode() == ("online" if reachable else "offline")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode() == "disabled"


def test_damaged_netrc_is_no_login(nobody):
    nobody.write_text("machine\n")
    assert wandb_mode() == "offline"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:{port}", True),
        ("http://127.0.0.1:{port}/wandb", True),
        ("http://127.0.0.1:1", False),
        ("http://127.0.0.1", False),  # nothing listens at port 80 here
        ("127.0.0.1:{port}", False),
        ("http://127.0.0.1:port", False),
    ],
)
def test_reaches_the_urls_own_port(monkeypatch, url, expected):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert _reachable(url.format(port=listener.getsockname()[1])) == expected


def test_columns_are_flat_and_name_classes():
    config = {"model": {"class_path": "modules.MAML", "init_args": {"outer": {"lr": 0.1}}}, "seed_everything": 0}
    assert columns(config) == {"model": "modules.MAML", "model/outer/lr": 0.1, "seed_everything": 0}


def test_run_goes_on_where_wandb_cannot_start(run, tiny, monkeypatch):
    def fail(**_):
        raise RuntimeError("no space left\nand more lines")

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(wandb, "init", fail)
    ended = run("fit", *tiny)
    assert ended.code == 0
    assert ended.err == "W&B did not start, metrics.csv is written all the same: no space left\n"
    with (RUN / "metrics.csv").open(newline="") as file:
        assert any(row["test/accuracy"] for row in csv.DictReader(file))


def test_continued_run_keeps_its_wandb_id(run, tiny, monkeypatch, wandb_contents):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert run("fit", *tiny, "--trainer.max_steps=2").code == 0
    assert run("fit", *tiny, "--ckpt_path=last").code == 0
    files = sorted(RUN.glob("wandb/offline-run-*/*.wandb"))
    assert [path.name for path in files] == [f"run-{(RUN / 'wandb_id').read_text().strip()}.wandb"] * 2
    assert steps_of(wandb_contents(files[0])[1]) == [1, 2]
    continued = wandb_contents(files[1])[1]
    assert steps_of(continued) == [1, 2, 3, 4]
    assert [row["trainer/global_step"] for row in continued if "val/episode/_type" in row] == [2]
    assert [path.with_suffix(".wandb.synced").exists() for path in files] == [True, False]


@pytest.mark.parametrize(
    ("last_row", "first", "step"),
    [("3,0.25,,1\n", {"train/loss": 0.25, "epoch": 1}, 3), ("2,,0.7,0\n", {"val/loss": 0.7, "epoch": 0}, 2)],
)
def test_continued_log_holds_each_row_once(tmp_path, monkeypatch, wandb_contents, last_row, first, step):
    """The first row after the checkpoint is a training step's or, where the validation comes again, that one's."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "metrics.csv").write_text("step,train/loss,val/loss,epoch\n1,1.0,,0\n2,0.5,,0\n" + last_row)
    dashboard = start_wandb(tmp_path, "name", {})
    assert isinstance(dashboard, RunDashboard)
    dashboard.log_metrics(first, step - 1)  # as a Trainer counts
    dashboard.finish(failed=False)
    rows = wandb_contents(next(tmp_path.glob("wandb/offline-run-*/*.wandb")))[1]
    found = [{name: row[name] for name in ("train/loss", "val/loss") if name in row} for row in rows]
    assert found == [{"train/loss": 1.0}, {"train/loss": 0.5}, {name: first[name] for name in first if name != "epoch"}]


def test_logger_false_leaves_metrics_alone(run, tiny, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert run("fit", *tiny, "--trainer.logger=false").code == 0
    assert not (RUN / "wandb").exists()
    assert (RUN / "metrics.csv").is_file()


def test_a_run_that_fails_in_its_first_batch_shows_no_log_and_leaves_none(run, tiny, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    ended = run("fit", *tiny, "--model.inner_lr=1e30")
    assert ended.code == 1
    assert "not finite at step 1" in ended.err
    assert "W&B" not in ended.out
    assert not Path("runs").exists()


def test_a_log_that_is_shown_stays(run, tiny, monkeypatch):
    """Also of a run that fails before its first checkpoint."""

    def fail(self: Callback, trainer, *_) -> None:
        if trainer.global_step == 1:
            raise RuntimeError("the machine is on fire")

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(Throughput, "on_train_batch_start", fail)
    ended = run("fit", *tiny)
    assert (ended.code, "on fire" in ended.err) == (1, True)
    log = Path(ended.out.split("sync ")[1].split()[0])
    assert log.is_dir()
    with (RUN / "metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1"]
