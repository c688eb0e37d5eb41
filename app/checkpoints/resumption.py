"""`--resume auto`: which run the same command began before, and the state that it goes on from."""

from pathlib import Path
from typing import Any

import yaml

from app.checkpoints.configuration import read_checkpoint
from app.checkpoints.file import DamagedCheckpointError
from app.checkpoints.what_is_trained import what_is_trained
from app.errors import UsageError
from app.runs.folder import LAST, RunFolder, run_of, runs
from modules.outer_loop import ENDLESS_SCHEDULES


def find_run(root: Path, name: str, config: dict[str, Any]) -> RunFolder | None:
    """The newest run that was begun with a configuration, on whatever machine; else the longest that is its beginning.

    Args:
        root: The folder of all runs.
        name: The run's name.
        config: The resolved configuration. A run with fewer steps is the beginning of this one where the step sizes do
            not depend on the number of steps.
    """
    wanted, steps = _without_length(what_is_trained(config))
    outer = ((wanted.get("model") or {}).get("init_args") or {}).get("outer") or {}
    beginning, length = None, 0
    for run in runs(root, name):
        try:
            stored = yaml.safe_load(run.config.read_text())
        except (OSError, yaml.YAMLError):
            continue
        if not isinstance(stored, dict) or stored.get("ckpt_path"):  # begun from another run's checkpoint
            continue
        trained, its_steps = _without_length(what_is_trained(stored))
        if not _agree(trained, wanted):
            continue
        if its_steps in (steps, None):
            return run
        if outer.get("schedule") in ENDLESS_SCHEDULES and length < its_steps < (steps or 0):
            beginning, length = run, its_steps
    return beginning


def _without_length(config: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
    """A configuration without its number of outer steps, and that number."""
    trainer = dict(config.get("trainer") or {})
    steps = trainer.pop("max_steps", None)
    return config | {"trainer": trainer}, steps


def _agree(stored: Any, wanted: Any) -> bool:
    """Whether two configurations say the same where both say something: a later version may have more options."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        return all(_agree(stored[name], wanted[name]) for name in stored.keys() & wanted.keys())
    return bool(stored == wanted)


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


def fallback_of(path: Path) -> RunFolder | None:
    """The run whose last checkpoint this is, so that the one before can stand in for it."""
    return run_of(path) if path.name == LAST else None
