"""Whatever happens to W&B, a training goes on to its end, says at most one line, and can be uploaded later."""

import csv
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.dashboards import wandb_run
from app.runs.throughput import Throughput
from tests.app.dashboards.wandb_server import API_KEY, ReceivedRun, WandbServer, wandb_server

ROOT = Path(__file__).parents[3]
RUN = Path("runs/maml_glyphs_5w1s/0")
LATE = "W&B did not take everything in time; upload it with: "
ALL_STEPS = [1, 2, 3, 4]

# A command in a process of its own, killed or robbed of W&B's process at its third step.
PROGRAM = """
import os, sys
from pathlib import Path
from app.runs.throughput import Throughput

def on_train_batch_start(self, trainer, *_):
    if trainer.global_step == 3:
        if {target!r} == "itself":
            os.kill(os.getpid(), 9)
        for children in Path("/proc/self/task").glob("*/children"):
            for pid in map(int, children.read_text().split()):
                if "wandb-core" in Path(f"/proc/{{pid}}/cmdline").read_text():
                    os.kill(pid, 9)
                    print("killed wandb-core")

Throughput.on_train_batch_start = on_train_batch_start
arguments, sys.argv = sys.argv[1:], ["train.py"]
from app.cli import main
main(arguments)
"""


@pytest.fixture
def server(run, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A healthy server that this machine is logged in to."""
    monkeypatch.setattr(wandb_run, "FINISH_SECONDS", 2)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    for name in ("WANDB_MODE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with wandb_server() as healthy:
        monkeypatch.setenv("WANDB_BASE_URL", healthy.url)
        monkeypatch.setenv("WANDB_API_KEY", API_KEY)
        yield healthy


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Lets something happen before a training step."""

    def arrange(step: int, act: Callable[[], None]) -> None:
        def on_train_batch_start(self, trainer, *_) -> None:
            if trainer.global_step == step:
                act()

        monkeypatch.setattr(Throughput, "on_train_batch_start", on_train_batch_start)

    return arrange


def fit_elsewhere(target: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM.format(target=target), "fit", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def upload(printed: str) -> str:
    """Runs the command that was printed, as it was printed."""
    command = printed.partition("upload")[2].partition("with: ")[2].splitlines()[0]
    return subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=True).stderr


def only_run(server: WandbServer) -> ReceivedRun:
    """The one run that the server holds."""
    assert list(server.runs) == [(RUN / "wandb_id").read_text().strip()]
    return next(iter(server.runs.values()))


def steps(received: ReceivedRun, metric: str = "train/loss") -> list[int]:
    return [step for step, _ in received.values(metric)]


def check_axis(received: ReceivedRun) -> None:
    """trainer/global_step is the x-axis of every metric without one of its own."""
    defined = received.config["_wandb"]["value"]["m"]
    named = [entry.get("1") for entry in defined]
    everything = next(entry for entry in defined if entry.get("2") == "*")
    assert named[everything["5"] - 1] == "trainer/global_step"


def test_online_run_arrives_whole(run, tiny, server):
    ended = run("fit", *tiny)
    assert (ended.code, ended.err) == (0, "")
    received = only_run(server)
    assert f"W&B: {server.url}" in ended.out
    assert steps(received) == ALL_STEPS
    assert list(received.rows) == [row["_step"] for row in received.rows.values()]
    assert received.exit_codes == [0]
    assert received.config["model"]["value"] == "modules.MAML"
    check_axis(received)
    results = json.loads((RUN / "results.json").read_text())
    assert received.summary["test/accuracy"] == results["accuracy"]
    adapted = wandb_run.ADAPTED.format(score="accuracy")
    curve = [(row["test/inner_step"], row[adapted]) for row in received.rows.values() if adapted in row]
    assert {str(step): accuracy for step, accuracy in curve} == results["adaptation_curve"]
    assert any(name.startswith("media/images/val/episode") for name in received.files)


def test_unreachable_server_means_offline(run, tiny, server):
    server.become("closed")
    ended = run("fit", *tiny)
    assert (ended.code, ended.err) == (0, "")
    assert (RUN / "results.json").is_file()
    server.become("up")
    upload(ended.out)
    received = only_run(server)
    assert steps(received) == ALL_STEPS
    assert received.exit_codes == [0]
    check_axis(received)


@pytest.mark.parametrize(
    "health",
    [
        "hung",
        pytest.param("closed", marks=pytest.mark.slow),
        pytest.param("error", marks=pytest.mark.slow),
        pytest.param("busy", marks=pytest.mark.slow),
    ],
)
def test_server_that_fails_in_mid_run(run, tiny, server, at_step, health):
    at_step(2, lambda: server.become(health))
    ended = run("fit", *tiny)
    assert ended.code == 0
    assert ended.err.startswith(LATE)
    assert len(ended.err.splitlines()) == 1
    assert (RUN / "results.json").is_file()
    server.become("up")
    upload(ended.err)
    received = only_run(server)
    assert steps(received)[-4:] == ALL_STEPS
    assert steps(received, "test/accuracy")[-1:] == [4]
    assert received.exit_codes[-1] == 0


@pytest.mark.slow
def test_silent_server_holds_a_run_up_for_its_limits_only(run, tiny, server, at_step, monkeypatch):
    monkeypatch.setattr(wandb_run, "FINISH_SECONDS", 20)
    at_step(2, lambda: server.become("hung"))
    arrived: list[float] = []
    monkeypatch.setattr(wandb_run.RunDashboard, "add_results", lambda self, results: arrived.append(time.monotonic()))
    assert run("fit", *tiny).code == 0
    assert time.monotonic() - arrived[0] < 30
    server.become("up")


@pytest.mark.slow
def test_server_silent_from_the_start_means_offline(run, tiny, server, monkeypatch):
    monkeypatch.setattr(wandb_run, "INIT_SECONDS", 3)
    server.become("hung")
    ended = run("fit", *tiny)
    assert ended.code == 0
    assert "offline; upload with: " in ended.out
    assert ended.err == ""
    server.become("up")
    upload(ended.out)
    assert steps(only_run(server)) == ALL_STEPS


def test_continued_online_run_is_appended_to(run, tiny, server):
    assert run("fit", *tiny, "--trainer.max_steps=2").code == 0
    received = only_run(server)
    first = dict(received.rows)
    assert steps(received) == [1, 2]
    ended = run("fit", *tiny, "--ckpt_path=last")
    assert (ended.code, ended.err) == (0, "")
    assert only_run(server) is received
    assert {number: received.rows[number] for number in first} == first
    assert steps(received) == ALL_STEPS
    assert list(received.rows) == [row["_step"] for row in received.rows.values()]


@pytest.mark.slow
def test_continued_online_run_fills_the_gap_of_an_outage(run, tiny, server, at_step):
    at_step(0, lambda: server.become("closed"))
    assert run("fit", *tiny, "--trainer.max_steps=2").code == 0
    assert steps(only_run(server)) == []
    at_step(-1, lambda: None)
    server.become("up")
    assert run("fit", *tiny, "--ckpt_path=last").code == 0
    assert steps(only_run(server)) == ALL_STEPS
    assert steps(only_run(server), "val/accuracy") == [2, 4]


def test_torn_log_of_a_stopped_run_loses_nothing(run, tiny, server, monkeypatch):
    """A process that is killed leaves a log that ends in the middle of a record."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert run("fit", *tiny, "--trainer.max_steps=2").code == 0
    (log,) = RUN.glob("wandb/offline-run-*/*.wandb")
    log.write_bytes(log.read_bytes()[:-100])
    continued = run("fit", *tiny, "--ckpt_path=last")
    assert (continued.code, continued.err) == (0, "")
    subprocess.run(["wandb", "sync", str(RUN / "wandb")], timeout=60, check=True)  # the folder takes no wrong piece
    received = only_run(server)
    assert steps(received) == ALL_STEPS
    assert received.exit_codes == [0]
    check_axis(received)


@pytest.mark.slow
def test_killed_run_continues_and_uploads_each_step_once(run, tiny, server, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    killed = fit_elsewhere("itself", *tiny)
    assert killed.returncode == -signal.SIGKILL
    continued = run("fit", *tiny, "--ckpt_path=last")
    assert continued.code == 0
    upload(continued.out)
    assert steps(only_run(server)) == ALL_STEPS
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert run("fit", *tiny, "--trainer.default_root_dir=whole").code == 0
    with Path("whole/maml_glyphs_5w1s/0/metrics.csv").open(newline="") as file:
        whole = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert [value for _, value in only_run(server).values("train/loss")] == whole


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_wandbs_own_process_killed(tiny, server, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    ended = fit_elsewhere("wandb-core", *tiny)
    assert "killed wandb-core" in ended.stdout
    assert ended.returncode == 0
    assert ended.stderr.startswith("W&B's log is not complete, metrics.csv is: ")
    assert len(ended.stderr.splitlines()) == 1
    assert (RUN / "results.json").is_file()


def test_full_disk_prints_no_traceback(run, tiny, monkeypatch, at_step):
    """W&B's debug.log cannot be written any more."""
    full = Path("/dev/full").open("w")  # noqa: SIM115 (W&B's handler closes it)

    def fill_up() -> None:
        for handler in logging.getLogger("wandb").handlers:
            if getattr(handler, "baseFilename", "").endswith("debug.log"):
                handler.setStream(full)  # type: ignore[attr-defined]

    monkeypatch.setenv("WANDB_MODE", "offline")
    at_step(2, fill_up)
    ended = run("fit", *tiny)
    assert ended.code == 0
    assert len(ended.err.splitlines()) <= 1
    assert "Traceback" not in ended.err


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="needs root to mount a file system")
@pytest.mark.parametrize("size", ["130k", "260k"])
def test_full_file_system_prints_no_traceback(run, tiny, tmp_path, size):
    (tmp_path / "small").mkdir()
    options = [*tiny, "--trainer.max_steps=150", "--trainer.val_check_interval=50", "--trainer.default_root_dir=small"]
    fit = " ".join([sys.executable, str(ROOT / "train.py"), "fit", *options])
    script = f"mount -t tmpfs -o size={size} tmpfs small && cd . && {fit}"
    environment = os.environ | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "mount" in ended.stderr:
        pytest.skip(ended.stderr)
    assert "Traceback" not in ended.stderr
    assert len(re.findall("W&B", ended.stderr)) <= 1
