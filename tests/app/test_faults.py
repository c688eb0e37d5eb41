"""What can go wrong around a run: each ends in one line, with nothing lost, or is not even noticed."""

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from app.checkpoints.file import load_sound
from app.runs.throughput import Throughput
from tests.chaos.comparison import differences

REPOSITORY = Path(__file__).parents[2]
RUN = Path("runs/maml_glyphs_5w1s/0")
WHOLE = Path("whole/maml_glyphs_5w1s/0")


def may_mount() -> bool:
    """Whether this user may mount a small file system of their own."""
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
    )


needs_mount = pytest.mark.skipif(not may_mount(), reason="needs `unshare -Urm` to mount a small file system")


def on_small_disk(script: str, arguments: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a shell script in which `fit` and `evaluate` are commands and `disk` is a mounted, small disk."""
    python = f"{sys.executable} {REPOSITORY / 'train.py'}"
    commands = f'fit() {{ {python} fit "$@" --resume=auto; }}; evaluate() {{ {python} test "$@"; }}; mkdir -p disk;'
    return subprocess.run(
        ["unshare", "-Urm", "bash", "-c", commands + script, "bash", *arguments],
        cwd=folder,
        env=os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@needs_mount
def test_disk_full_while_checkpointing_keeps_the_one_before_and_goes_on_later(run, tiny, tmp_path):
    arguments = (*tiny, "--model.backbone.filters=32", "--checkpoint.every_minutes=0")
    script = """
        mount -t tmpfs -o size=1200k none disk
        fit "$@" --trainer.default_root_dir=disk; echo "code $?"
        cp -r disk kept
        mount -o remount,size=100m none disk
        fit "$@" --trainer.default_root_dir=disk; echo "code $?"
        cp -r disk/. runs
    """
    Path("runs").mkdir()
    ended = on_small_disk(script, arguments, tmp_path)
    assert ended.stdout.count("code ") == 2, ended.stderr
    assert "code 1\n" in ended.stdout
    assert ended.stdout.endswith("code 0\n"), ended.stderr
    line, *others = ended.stderr.splitlines()
    assert others == []
    assert line.startswith("error: cannot write disk/maml_glyphs_5w1s/0/checkpoints/")
    assert "No space left" in line
    assert "the one before is kept" in line
    assert "resume with: python train.py fit" in line
    kept = sorted(path.name for path in Path("kept/maml_glyphs_5w1s/0/checkpoints").iterdir())
    assert kept
    assert not [name for name in kept if name.endswith(".part")]
    for name in kept:
        assert load_sound(Path("kept/maml_glyphs_5w1s/0/checkpoints") / name)["global_step"] > 0
    assert run("fit", *arguments, "--trainer.default_root_dir=whole").code == 0
    assert differences(RUN, WHOLE) == []


@needs_mount
def test_disk_full_while_writing_results_is_one_line(fitted, tiny, tmp_path):
    fitted(*tiny)
    script = "mount -t tmpfs -o size=8k none disk; evaluate --ckpt_path=runs/maml_glyphs_5w1s/0"
    script += " --trainer.default_root_dir=disk"
    ended = on_small_disk(script, (), tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "error: cannot write disk/maml_glyphs_5w1s/test_0/results.json (No space left on device)"
    )
    assert ended.stderr.count("\n") == 1


def test_a_killed_loader_worker_is_one_line_and_the_run_goes_on(run, tiny, monkeypatch):
    arguments = (*tiny, "--data.loading.num_workers=1", "--checkpoint.every_minutes=0", "--resume=auto")

    def kill_worker(self: object, trainer, *_) -> None:
        if trainer.global_step == 2:
            for worker in multiprocessing.active_children():
                worker.kill()

    with monkeypatch.context() as patched:
        patched.setattr(Throughput, "on_train_batch_start", kill_worker)
        ended = run("fit", *arguments)
    assert ended.code == 1
    assert "DataLoader worker" in ended.err
    assert "resume with: python train.py fit" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert run("fit", *arguments).code == 0
    assert run("fit", *tiny, "--data.loading.num_workers=1", "--trainer.default_root_dir=whole").code == 0
    assert differences(RUN, WHOLE) == []


def test_a_clock_that_goes_backwards_changes_nothing(run, fitted, tiny, monkeypatch):
    fitted(*tiny, "--trainer.default_root_dir=whole")
    now = [2e9]

    def backwards() -> float:
        now[0] -= 1000
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    assert run("fit", *tiny, "--resume=auto").code == 0
    for age, path in enumerate(sorted((RUN / "checkpoints").iterdir())):
        os.utime(path, (2e9 - 1e6 * age, 2e9 - 1e6 * age))
    (RUN / "results.json").unlink()
    assert run("fit", *tiny, "--resume=auto").code == 0
    assert differences(RUN, WHOLE) == []


def test_a_training_that_is_not_finite_stops_with_its_step_and_tasks(run, tiny):
    arguments = (*tiny, "--trainer.max_steps=6", "--resume=auto")
    ended = run("fit", *arguments, "--model.inner_lr=1e38", "--checkpoint.every_minutes=0")
    assert ended.code == 1
    assert ended.err.startswith("error: the loss or its gradient is not finite at step ")
    assert "(training tasks " in ended.err
    assert "inner step size" in ended.err
    assert len(ended.err.splitlines()) == 1


class Malicious:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch payload-ran",)


@pytest.mark.parametrize("form", ["PyTorch's", "a plain pickle", "a zip around a pickle"])
def test_a_malicious_checkpoint_is_refused_and_never_runs(run, fitted, tiny, form):
    fitted(*tiny, "--resume=auto")
    last = RUN / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["callbacks"]["Malicious"] = Malicious()
    if form == "PyTorch's":
        torch.save(checkpoint, "evil.ckpt")
    elif form == "a plain pickle":
        Path("evil.ckpt").write_bytes(pickle.dumps(Malicious()))
    else:
        with zipfile.ZipFile("evil.ckpt", "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Malicious()))
            archive.writestr("archive/version", "3\n")
    pickle.loads(pickle.dumps(Malicious()))  # it would
    assert Path("payload-ran").exists()
    Path("payload-ran").unlink()
    for command in ("test", "validate", "predict", "fit"):
        ended = run(command, "--ckpt_path=evil.ckpt", *(tiny if command == "fit" else ()))
        assert ended.code == 2, ended.err
        assert "evil.ckpt" in ended.err
        assert ended.err.count("\n") == 1
    shutil.copy("evil.ckpt", last)
    ended = run("fit", *tiny, "--resume=auto")
    if form != "a plain pickle":  # whole, and not what a run leaves: somebody put it there
        assert ended.code == 2
        assert "could execute code" in ended.err
    else:
        assert ended.code == 0, ended.err
        assert "last.ckpt is damaged: resuming from" in ended.out
    assert not Path("payload-ran").exists()
