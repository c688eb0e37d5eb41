"""deploy/torchrun.py ends with the training's own exit code, and hands signals on to it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deploy.manifests import DEPLOY

WORKER = """\
import os, signal, sys, time
from pathlib import Path

def stopped(number, frame):
    Path("saved").write_text(str(number))
    sys.exit(128 + number)

if sys.argv[1] == "wait":
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, stopped)
    Path("ready").touch()
    time.sleep(60)
elif sys.argv[1] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(sys.argv[1]))
"""


def start(folder: Path, argument: str) -> subprocess.Popen[str]:
    """torchrun with one process that does as it is told."""
    (folder / "worker.py").write_text(WORKER)
    command = [sys.executable, str(DEPLOY / "torchrun.py"), "--standalone", "--nproc-per-node=1", "worker.py", argument]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("2", 2),
        pytest.param("0", 0, marks=pytest.mark.slow),
        pytest.param("143", 143, marks=pytest.mark.slow),
        pytest.param("die", 137, marks=pytest.mark.slow),
    ],
)
def test_exit_code_is_the_trainings(argument, code, tmp_path):
    process = start(tmp_path, argument)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert (f"rank 0 was the first to fail, with exit code {code}" in errors) == (code != 0)
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_the_training(number, tmp_path):
    process = start(tmp_path, "wait")
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert (tmp_path / "saved").read_text() == str(number)
