"""A run is a folder, runs/NAME/VERSION/: config.yaml, metrics.csv, checkpoints/, results.json, wandb/."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

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
        """What `--ckpt_path last` continues."""
        return self.checkpoints / "last.ckpt"

    def best_checkpoint(self) -> Path | None:
        """The checkpoint with the best validation accuracy, if there was a validation."""
        found = sorted(self.checkpoints.glob("best*.ckpt"), key=lambda path: path.stat().st_mtime)
        return found[-1] if found else None

    def remove_if_empty_handed(self) -> None:
        """Removes a new folder that holds no checkpoint and no result: nothing was trained or measured."""
        kept = ("checkpoints/*.ckpt", "results.json", "predictions.csv")
        if self.created and not any(next(self.path.glob(pattern), None) for pattern in kept):
            shutil.rmtree(self.path, ignore_errors=True)
            for parent in (self.path.parent, self.path.parent.parent):
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()


def new_run_folder(root: Path, name: str, command: str, rank: int = 0) -> RunFolder:
    """Makes the next free version; of two that start at once, each gets its own.

    Args:
        root: The folder of all runs.
        name: The run's name.
        command: "fit" counts 0, 1, ...; others test_0, predict_0, ...
        rank: Ranks above 0 make nothing; they take rank 0's folder from the environment, or later by broadcast.
    """
    inherited = os.environ.get(RUN_FOLDER_VARIABLE)
    if inherited and rank > 0:
        return RunFolder(Path(inherited))
    prefix = "" if command == "fit" else f"{command}_"
    version = 1 + max((_version(path, prefix) for path in (root / name).glob("*")), default=-1)
    while rank == 0:
        path = root / name / f"{prefix}{version}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            version += 1
            continue
        os.environ[RUN_FOLDER_VARIABLE] = str(path)
        return RunFolder(path, created=True)
    return RunFolder(root / name / f"{prefix}{version}")


def newest_run(root: Path, name: str) -> RunFolder | None:
    """The newest run of a name that has a checkpoint to continue from."""
    runs = sorted(
        (path for path in (root / name).glob("*") if _version(path, "") >= 0), key=lambda path: int(path.name)
    )
    resumable = [RunFolder(path) for path in runs if (path / "checkpoints" / "last.ckpt").is_file()]
    return resumable[-1] if resumable else None


def run_of(checkpoint: Path) -> RunFolder | None:
    """The run that a checkpoint lies in, if it does."""
    folder = checkpoint.absolute().parent
    if folder.name == "checkpoints" and (folder.parent / "config.yaml").is_file():
        return RunFolder(Path(os.path.relpath(folder.parent)))
    return None


def _version(path: Path, prefix: str) -> int:
    match = re.fullmatch(rf"{prefix}(\d+)", path.name)
    return int(match[1]) if match else -1
