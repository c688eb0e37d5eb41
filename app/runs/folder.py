"""A run is a folder, runs/NAME/VERSION/: config.yaml, metrics.csv, checkpoints/, results.json, wandb/."""

import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
RUN_FOLDER_VARIABLE = "QUICKSTUDY_RUN_FOLDER"  # how the processes that Lightning starts learn of rank 0's folder


@dataclass
class RunFolder:
    """Where one run's files go.

    Args:
        path: The folder.
        created: This process made it, and may remove it where the run fails before its first step.
    """

    path: Path
    created: bool = False

    @property
    def checkpoints(self) -> Path:
        """The folder of best-step=N.ckpt and last.ckpt."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """Returns what `--ckpt_path last` continues."""
        return self.checkpoints / LAST

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    def best_checkpoints(self) -> list[Path]:
        """The checkpoints that were the best at their validation, the newest first; not by the clock, which may err."""
        steps = {}
        for path in self.checkpoints.glob("best*.ckpt"):
            if match := re.fullmatch(r"best-step=(\d+)\.ckpt", path.name):
                steps[path] = int(match[1])
        return sorted(steps, key=lambda path: -steps[path])

    def states(self) -> list[Path]:
        """The checkpoints that a run can go on from, the newest first."""
        found = [self.last_checkpoint, self.checkpoints / PREVIOUS, *self.best_checkpoints()]
        return [path for path in found if path.is_file()]

    def remove_if_empty_handed(self) -> None:
        """Removes a new folder that holds no checkpoint and no result: nothing was trained or measured."""
        kept = ("checkpoints/*.ckpt", "results.json", "predictions.csv")
        if self.created and not any(next(self.path.glob(pattern), None) for pattern in kept):
            shutil.rmtree(self.path, ignore_errors=True)
            for parent in (self.path.parent, self.path.parent.parent):
                with suppress(OSError):  # not empty, or a mounted disk
                    parent.rmdir()


def new_run_folder(root: Path, name: str, command: str, config: str, rank: int = 0) -> RunFolder:
    """Makes the next free version, with its configuration in it; of two that start at once, each gets its own.

    Args:
        root: The folder of all runs.
        name: The run's name.
        command: "fit" counts 0, 1, ...; others test_0, predict_0, ...
        config: The resolved configuration, as config.yaml's text.
        rank: Ranks above 0 make nothing; they take rank 0's folder from the environment, or later by broadcast.
    """
    inherited = os.environ.get(RUN_FOLDER_VARIABLE)
    if inherited and rank > 0:
        return RunFolder(Path(inherited))
    prefix = "" if command == "fit" else f"{command}_"
    version = 1 + max((_version(path, prefix) for path in (root / name).glob("*")), default=-1)
    if rank > 0:
        return RunFolder(root / name / f"{prefix}{version}")
    (root / name).mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".new-", dir=root / name))  # nobody ever sees a run without its configuration
    try:
        draft.chmod(0o755)
        (draft / "config.yaml").write_text(config)
        while (path := root / name / f"{prefix}{version}").exists() or not _renamed(draft, path):
            version += 1
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    os.environ[RUN_FOLDER_VARIABLE] = str(path)
    return RunFolder(path, created=True)


def runs(root: Path, name: str) -> list[RunFolder]:
    """The runs of a name that were trained, the newest first."""
    paths = [path for path in (root / name).glob("*") if _version(path, "") >= 0]
    return [RunFolder(path) for path in sorted(paths, key=lambda path: -int(path.name))]


def newest_run(root: Path, name: str) -> RunFolder | None:
    """The newest run of a name that has a checkpoint to continue from."""
    return next((run for run in runs(root, name) if run.states()), None)


def run_of(checkpoint: Path) -> RunFolder | None:
    """The run that a checkpoint lies in, if it does."""
    folder = checkpoint.absolute().parent
    if folder.name == "checkpoints" and (folder.parent / "config.yaml").is_file():
        return RunFolder(Path(os.path.relpath(folder.parent)))
    return None


def configuration_of(run: RunFolder) -> dict[str, Any] | None:
    """Returns what a run's config.yaml holds; None where it cannot be read."""
    try:
        config = yaml.safe_load(run.config.read_text())
    except (OSError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) else None


def _renamed(draft: Path, path: Path) -> bool:
    with suppress(OSError):  # another process was faster
        draft.rename(path)
        return True
    return False


def _version(path: Path, prefix: str) -> int:
    match = re.fullmatch(rf"{prefix}(\d+)", path.name)
    return int(match[1]) if match else -1
