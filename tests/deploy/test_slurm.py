"""deploy/slurm.sbatch on a real Slurm, where there is one: requeued in mid-run, it ends as an undisturbed job does."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.comparison import differences
from tests.deploy.small_job import SMALL_JOB

REPOSITORY = Path(__file__).parents[2]


def slurm_answers() -> bool:
    """Whether a node of a Slurm can take a job now."""
    if shutil.which("sbatch") is None:
        return False
    asked = subprocess.run(["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True, timeout=30)
    return asked.returncode == 0 and "idle" in asked.stdout


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not slurm_answers(), reason="needs a Slurm with an idle node (slurmctld, slurmd)"),
]


class SlurmJob:
    """Two processes on this machine's Slurm."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder, self.log = folder, folder / "log.txt"
        folder.mkdir()
        options = [
            "--gpus-per-node=0",
            "--ntasks-per-node=2",
            "--cpus-per-task=1",
            f"--output={self.log}",
            "--parsable",
        ]
        arguments = [*SMALL_JOB, *more, f"--trainer.default_root_dir={folder / 'runs'}"]
        command = ["sbatch", *options, "deploy/slurm.sbatch", *arguments]
        environment = os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
        self.number = done.stdout.strip()

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "maml_glyphs_5w1s" / "0"

    def said(self) -> str:
        return self.log.read_text() if self.log.is_file() else ""

    def wait_for(self, happened: Callable[[], bool], seconds: float = 180) -> float:
        """How long it took."""
        start = time.monotonic()
        while not happened():
            assert time.monotonic() < start + seconds, self.said()
            time.sleep(0.1)
        return time.monotonic() - start

    def in_queue(self) -> bool:
        asked = subprocess.run(["squeue", "--noheader", f"--jobs={self.number}"], capture_output=True, text=True)
        return bool(asked.stdout.strip())

    def control(self, *command: str) -> None:
        subprocess.run([*command, self.number], check=True, capture_output=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a job that nothing happened to."""
    job = SlurmJob(tmp_path_factory.mktemp("slurm") / "whole")
    job.wait_for(lambda: not job.in_queue())
    assert (job.run / "results.json").is_file(), job.said()
    return job.run


@pytest.mark.parametrize(
    "command",
    [
        ("scontrol", "requeue"),
        ("scancel", "--signal=USR1"),  # what --signal sends to the processes before a time limit
        ("scancel", "--signal=TERM"),
    ],
    ids=" ".join,
)
def test_requeued_in_mid_run(whole: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    job = SlurmJob(tmp_path / "stopped")
    job.wait_for(lambda: "step 50/150" in job.said())
    job.control(*command)
    waited = job.wait_for(lambda: "start 2" in job.said(), 300)  # Slurm lets a requeued job wait for a while
    seconds = job.wait_for(lambda: "step 75/150" in job.said())
    print(f"{' '.join(command)}: {waited:.0f} s in the queue, {seconds:.0f} s from the start to the next validation")
    job.wait_for(lambda: not job.in_queue())
    assert differences(job.run, whole) == [], job.said()
    assert "Resuming" in job.said()


def test_a_wrong_command_is_not_requeued(tmp_path: Path) -> None:
    job = SlurmJob(tmp_path / "wrong", "--model.inner_lrr=3")
    job.wait_for(lambda: not job.in_queue())
    assert "did you mean --model.inner_lr?" in job.said()
    assert "back into the queue" not in job.said()


def test_a_process_is_killed_and_the_job_requeued(whole: Path, tmp_path: Path) -> None:
    job = SlurmJob(tmp_path / "killed")
    job.wait_for(lambda: "step 50/150" in job.said())
    subprocess.run(["pkill", "-KILL", "-f", f"^[^ ]*python train.py fit .*{job.folder}"], check=True)
    job.wait_for(lambda: not job.in_queue())  # a failure: nothing puts it back into the queue
    assert "back into the queue" not in job.said()
    job.control("scontrol", "requeue")
    job.wait_for(lambda: "start 2" in job.said(), 300)
    job.wait_for(lambda: not job.in_queue())
    assert differences(job.run, whole) == [], job.said()


def test_a_cancelled_job_stays_cancelled_with_its_state_saved(tmp_path: Path) -> None:
    job = SlurmJob(tmp_path / "cancelled")
    job.wait_for(lambda: "step 50/150" in job.said())
    job.control("scancel")
    job.wait_for(lambda: not job.in_queue())
    assert "Stopped after step " in job.said()
    assert "back into the queue" not in job.said()
