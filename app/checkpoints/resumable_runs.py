"""The runs that a configuration has begun before, and the newest sound state of a run."""

from pathlib import Path
from typing import Any

from app.checkpoints.configuration import read_checkpoint
from app.checkpoints.file import DamagedCheckpointError
from app.checkpoints.resume_decision import is_same_run
from app.process.errors import UsageError
from app.runs.folder import LAST, RunFolder, configuration_of, runs


def find_runs(root: Path, name: str, config: dict[str, Any]) -> list[RunFolder]:
    """The runs that were begun with a configuration, on whatever machine: those to resume, the best first.

    A run of as many steps comes before one of fewer, which is the beginning of this one; a run begun from another run's
    checkpoint is none.

    Args:
        root: The folder of all runs.
        name: The run's name.
        config: The resolved configuration.
    """
    steps = (config.get("trainer") or {}).get("max_steps")
    as_long: list[RunFolder] = []
    shorter: list[tuple[int, RunFolder]] = []
    for run in runs(root, name):
        stored = configuration_of(run)
        if stored is None or stored.get("ckpt_path") or not is_same_run(stored, config):
            continue
        its_steps = (stored.get("trainer") or {}).get("max_steps")
        if its_steps in (steps, None):
            as_long.append(run)
        elif steps is not None and 0 < its_steps < steps:
            shorter.append((its_steps, run))
    return as_long + [run for _, run in sorted(shorter, key=lambda found: -found[0])]


def sound_state(run: RunFolder) -> tuple[Path, dict[str, Any], list[Path]] | None:
    """The newest checkpoint of a run that is sound, its contents, and those that are damaged.

    Returns:
        None where the run has no checkpoint yet.

    Raises:
        UsageError: If it has some and all are damaged.
        OSError: If one cannot be read, which says nothing of its contents.
    """
    damaged: list[Path] = []
    sound: list[tuple[Path, dict[str, Any]]] = []
    for path in run.states():
        try:
            sound.append((path, read_checkpoint(path)))
        except DamagedCheckpointError:
            damaged.append(path)
        if path.name == LAST and sound:
            break
    if sound:
        return *max(sound, key=lambda state: state[1]["global_step"]), damaged
    if damaged:
        raise UsageError(
            f"none of the {len(damaged)} checkpoints of {run.path} can be read: move it away to start anew"
        )
    return None
