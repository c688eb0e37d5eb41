"""Machines that do not share the run's folder are told so, on each of them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


def start(folder: Path, arguments: tuple[str, ...], **environment: object) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    own = {
        "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
        **{name: str(value) for name, value in environment.items()},
    }
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "train.py"), "fit", *arguments, "--resume=auto"],
        cwd=folder,
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("begun", [True, False])
def test_each_machine_has_a_folder_of_its_own(tiny, tmp_path, begun):
    arguments = (*tiny, "--checkpoint.every_minutes=0")
    if begun:
        stopped = start(tmp_path / "first", (*arguments, "--model.inner_lr=0.1"))
        assert stopped.wait(120) == 0, stopped.communicate()
        for path in (tmp_path / "first").glob("runs/*/0/checkpoints/*"):
            if path.name != "previous.ckpt":  # of step 3
                path.unlink()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ddp = ("--trainer.devices=1", "--trainer.num_nodes=2", "--trainer.strategy=ddp", "--model.inner_lr=0.1")
    machines = [
        start(
            tmp_path / name,
            (*arguments, *ddp),
            RANK=rank,
            LOCAL_RANK=0,
            GROUP_RANK=rank,
            WORLD_SIZE=2,
            LOCAL_WORLD_SIZE=1,
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
            TORCHELASTIC_RUN_ID="test",
        )
        for rank, name in enumerate(("first", "second"))
    ]
    for machine in machines:
        _, err = machine.communicate(timeout=120)
        assert machine.returncode == 1, err
        assert "the processes do not share one folder: " in err
        assert "must be on a disk that all of them see" in err
        assert ("one resumes from step 3 and another from step 0" in err) == begun
