"""Which checkpoint `--ckpt_path` means: a file, a run's folder, or the words "last" and "best"."""

import os
from pathlib import Path

from app.checkpoints.file import DamagedCheckpointError, load_sound
from app.process.errors import UsageError
from app.runs.folder import RunFolder, configuration_of, newest_run
from app.runs.run_checkpoint import RunCheckpoint

WORDS = ("last", "best")


def choose_checkpoint(given: str, root: Path, name: str, to_train: bool = False) -> Path | None:
    """The file that `--ckpt_path` means.

    Args:
        given: A checkpoint; a run's folder; "last" or "best", of the name's newest run. A folder stands for its last
            checkpoint where it is trained on, else for the one that `fit` tests: its best, else its last.
        root: The folder of all runs.
        name: The run's name.
        to_train: Whether it is trained on.

    Returns:
        The path, which need not exist; None for a word where there is no run of that name.

    Raises:
        UsageError: If a folder is given that holds no checkpoint.
    """
    if given in WORDS and not Path(given).exists():
        run = newest_run(root, name)
        if run is None:
            return None
        return best_checkpoint(run) or run.last_checkpoint if given == "best" else run.last_checkpoint
    path = Path(given)
    if path.is_dir():
        run = RunFolder(path.parent if path.name == "checkpoints" else path)
        last = run.last_checkpoint if run.last_checkpoint.is_file() else None
        if to_train and run.states():
            return run.last_checkpoint  # or the one before it, where that is damaged
        chosen = (last if tests_last(run) else None) or best_checkpoint(run) or last
        if chosen is None:
            raise UsageError(f"--ckpt_path {given} is a folder without checkpoints/best*.ckpt or checkpoints/last.ckpt")
        return chosen
    return path


def only_name(given: str, root: Path) -> str | None:
    """The name of the runs that "last" and "best" choose from, where no configuration file says it.

    Args:
        given: What `--ckpt_path` says.
        root: The folder of all runs.

    Returns:
        None where there is no run, or the word is none.

    Raises:
        UsageError: If there are runs of several names.
    """
    if given not in WORDS or Path(given).exists():
        return None
    names = sorted(folder.name for folder in root.glob("*") if newest_run(root, folder.name) is not None)
    if len(names) > 1:
        raise UsageError(
            f"--ckpt_path {given}: {root}/ holds runs of {', '.join(names)}: name a run by its folder, or --config"
        )
    return names[0] if names else None


def tests_last(run: RunFolder) -> bool:
    """Tells whether `fit` tests a run's last checkpoint in place of its best."""
    config = configuration_of(run) or {}
    return bool((config.get("checkpoint") or {}).get("tested") == "last")


def best_checkpoint(run: RunFolder) -> Path | None:
    """The checkpoint with the best validation score, if there was a validation.

    Of several, the newest one holds their scores.
    """
    found = run.best_checkpoints()
    if len(found) < 2:
        return found[0] if found else None
    callbacks = load_sound(found[0]).get("callbacks", {})
    states = [state for name, state in callbacks.items() if name.startswith(RunCheckpoint.__name__)]
    best = [path for path in found if states and path.name == states[0]["best_of_all"]]
    return best[0] if best else found[0]


def sound_best(run: RunFolder, known: str, say: bool) -> str | None:
    """The best checkpoint of a run that can be read, as a path from here; None where there is none.

    Args:
        run: The run.
        known: The best one's path, as its training knows it; "" where it does not.
        say: Whether a line names those that are damaged.
    """
    best = known or best_checkpoint(run)
    for path in [Path(best), *run.best_checkpoints()] if best else []:
        try:
            load_sound(path)
        except DamagedCheckpointError as error:
            if say:
                print(f"{error}: it is not tested.")
        else:
            return os.path.relpath(path)
    return None
