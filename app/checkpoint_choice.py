"""Which checkpoint `--ckpt_path` means: a file, a run's folder, or the words "last" and "best"."""

from pathlib import Path

from app.errors import UsageError
from app.run_folder import RunFolder, newest_run

WORDS = ("last", "best")


def choose_checkpoint(given: str, root: Path, name: str) -> Path | None:
    """The file that `--ckpt_path` means.

    Args:
        given: A checkpoint; a run's folder, for its best checkpoint, else its last; "last" or "best", of the name's
            newest run.
        root: The folder of all runs.
        name: The run's name.

    Returns:
        The path, which need not exist; None for a word where there is no run of that name.

    Raises:
        UsageError: If a folder is given that holds no checkpoint.
    """
    if given in WORDS and not Path(given).exists():
        run = newest_run(root, name)
        if run is None:
            return None
        return run.best_checkpoint() or run.last_checkpoint if given == "best" else run.last_checkpoint
    path = Path(given)
    if path.is_dir():
        run = RunFolder(path.parent if path.name == "checkpoints" else path)
        best = run.best_checkpoint() or (run.last_checkpoint if run.last_checkpoint.is_file() else None)
        if best is None:
            raise UsageError(f"--ckpt_path {given} is a folder without checkpoints/best*.ckpt or checkpoints/last.ckpt")
        return best
    return path
