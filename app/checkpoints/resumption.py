"""`--resume auto`: which run the same command began before, and the state that it goes on from."""

import dataclasses
import importlib
import inspect
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


def _agree(stored: Any, wanted: Any, defaults: dict[str, Any] | None = None) -> bool:
    """Whether two configurations say the same; an option that the stored one does not know yet must be at its default.

    Args:
        stored: A run's configuration, or a part of it.
        wanted: The present one.
        defaults: Of the options of this part, where they are known.
    """
    if not isinstance(stored, dict) or not isinstance(wanted, dict):
        return bool(stored == wanted)
    known = defaults or {}
    for name, value in wanted.items():
        if name not in stored:
            if _plain(known.get(name, value)) != value:
                return False
        elif not _agree(stored[name], value, _defaults_in(wanted, name, known)):
            return False
    return True


def _defaults_in(part: dict[str, Any], name: str, known: dict[str, Any]) -> dict[str, Any]:
    """The defaults of what lies under a name: of a class's arguments, or of the fields of a settings object."""
    if name == "init_args" and "class_path" in part:
        module, _, kind = part["class_path"].rpartition(".")
        arguments = inspect.signature(getattr(importlib.import_module(module), kind)).parameters
        return {n: a.default for n, a in arguments.items() if a.default is not a.empty}
    default = known.get(name)
    return vars(default) if dataclasses.is_dataclass(default) else {}


def _plain(default: Any) -> Any:
    """A default as a configuration writes it."""
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return {name: _plain(value) for name, value in vars(default).items()}
    return list(default) if isinstance(default, tuple) else default


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
