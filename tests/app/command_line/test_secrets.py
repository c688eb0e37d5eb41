"""No secret reaches a run's files or its output: not the environment's, not a remote's password, not a typed one."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from app.command_line.secret_values import secret_values

REPOSITORY = Path(__file__).parents[3]
SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "MY_SERVICE_TOKEN": "tokenValue-3f7a",
    "db_password": "passwordValue-91c2",
    "A_SECRET": "secretValue-77b0",
    "CLOUD_ACCESS_KEY_ID": "keyValue-ab44",
}
REMOTE_PASSWORD = "remotePassword-5d1e"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """This application's sources in a repository of their own, whose remote's address carries a password."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("app", "configs", "datamodules", "modules", "train.py"):
        (folder / name).symlink_to(REPOSITORY / name)
    remote = f"https://user:{REMOTE_PASSWORD}@host.example/x.git"
    identity = ["-c", "user.name=test", "-c", "user.email=test@host.example"]
    for command in (
        ["init", "--quiet"],
        ["remote", "add", "origin", remote],
        ["add", "train.py"],
        [*identity, "commit", "--quiet", "--message", "x"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True, timeout=20)
    return folder


def contents(path: Path) -> list[bytes]:
    """A file's bytes, and those inside it where it is a zip, as checkpoints are."""
    found = [path.read_bytes()]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            found += [archive.read(name) for name in archive.namelist()]
    return found


def leaks(secrets: dict[str, str], run: Path, output: str) -> list[str]:
    """Which secret is in which file."""
    files = {path: contents(path) for path in sorted(run.rglob("*")) if path.is_file()}
    found = [f"{name} in the output" for name, value in secrets.items() if value in output]
    for path, parts in files.items():
        found += [f"{n} in {path.name}" for n, v in secrets.items() if any(v.encode() in part for part in parts)]
    return found


def test_a_run_writes_no_secret(clone, tiny):
    environment = os.environ | SECRETS | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "train.py", "fit", *tiny, "--trainer.max_steps=2"]
    ended = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    runs = clone / "runs"
    kinds = {path.suffix for path in runs.rglob("*") if path.is_file()}
    assert {".yaml", ".json", ".csv", ".ckpt", ".wandb", ".log"} <= kinds
    assert leaks(SECRETS | {"the remote's password": REMOTE_PASSWORD}, runs, ended.stdout + ended.stderr) == []
    # The search itself finds what is there: in a checkpoint, which is a zip, and in W&B's file.
    found = leaks({"a class": "modules.MAML"}, runs, "")
    assert {"a class in last.ckpt", "a class in config.yaml"} <= set(found)
    assert any(line.endswith(".wandb") for line in found)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data.root=VALUE"],
        ["--model.inner_lr=VALUE"],
        ["--no.such.option=VALUE"],
        ["--VALUE"],
        ["--trainer.default_root_dir", "runs/VALUE/here"],
        ["VALUE"],
        ['--config={"seed_everything": "VALUE"}'],
        ["--config=VALUE.yaml"],
    ],
)
@pytest.mark.parametrize("name", ["WANDB_API_KEY", "db_password"])
def test_a_secret_on_the_command_line_is_refused_and_not_quoted(run, tiny, monkeypatch, arguments, name):
    monkeypatch.setenv(name, SECRETS[name])
    ended = run("fit", *tiny, *(argument.replace("VALUE", SECRETS[name]) for argument in arguments))
    assert ended.code == 2
    assert ended.err == (
        f"error: the command line holds the value of {name}, which the run's files would show: take it out\n"
    )
    assert not Path("runs").exists()


def test_a_secret_in_a_configuration_file_is_refused(run, monkeypatch):
    monkeypatch.setenv("A_SECRET", SECRETS["A_SECRET"])
    Path("mine.yaml").write_text(f"data:\n  init_args:\n    root: {SECRETS['A_SECRET']}\n")
    ended = run("fit", "--config=mine.yaml")
    assert ended.code == 2
    assert ended.err.startswith("error: mine.yaml holds the value of A_SECRET")
    assert SECRETS["A_SECRET"] not in ended.err


def test_short_values_paths_and_other_names_are_no_secrets(tmp_path):
    environment = {"TOKEN": "1234567", "KEY_FILE": str(tmp_path), "HOME_FOLDER": "0123456789", "my_token": "0123456789"}
    assert secret_values(environment) == {"my_token": "0123456789"}
