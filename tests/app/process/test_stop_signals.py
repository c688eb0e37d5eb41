"""A real process that a cluster stops: saved within ten seconds of the step, one line, the exit code, nothing lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.comparison import differences

REPOSITORY = Path(__file__).parents[3]
SMALL = (
    "--trainer.accelerator=cpu",
    "--trainer.max_steps=120",
    "--trainer.val_check_interval=20",
    "--trainer.log_every_n_steps=5",
    "--data.meta_batch_size=4",
    "--data.evaluation.n_val_tasks=8",
    "--data.evaluation.n_test_tasks=16",
    "--model.backbone.filters=8",
    "--resume=auto",
)


def start(folder: Path, processes: int) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    ddp = (f"--trainer.devices={processes}", "--trainer.strategy=ddp") if processes > 1 else ()
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "train.py"), "fit", *SMALL, *ddp],
        cwd=folder,
        env=os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_stopped_from_outside(processes, number, tmp_path):
    whole = start(tmp_path / "whole", processes)
    assert whole.wait(200) == 0, whole.communicate()
    process = start(tmp_path / "stopped", processes)
    assert process.stdout is not None
    while "step 40/120" not in (line := process.stdout.readline()):
        assert line, process.communicate()
    process.send_signal(number)  # to the first process alone, as a container's engine does
    sent = time.monotonic()
    assert process.wait(60) == 128 + number
    seconds = time.monotonic() - sent
    assert seconds < 10
    out, err = process.communicate()
    assert err.startswith("Stopped ")
    assert len(err.splitlines()) == 1, err
    started, again = time.monotonic(), start(tmp_path / "stopped", processes)
    assert again.stdout is not None
    out = again.stdout.readline()
    assert "Resuming runs/maml_glyphs_5w1s/0 from step " in out
    while "step 60/120" not in (line := again.stdout.readline()):
        assert line, again.communicate()
    after = time.monotonic() - started
    print(f"{processes} processes: ended {seconds:.1f} s after the signal; 20 steps done {after:.1f} s after the start")
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0, err
    assert differences(*(tmp_path / name / "runs/maml_glyphs_5w1s/0" for name in ("stopped", "whole"))) == []
