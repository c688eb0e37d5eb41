"""`--resume auto`: which run the same command began before, and the state that it goes on from."""

from pathlib import Path
from typing import Any

import yaml

from app.checkpoint_config import read_checkpoint
from app.checkpoint_file import DamagedCheckpointError
from app.errors import UsageError
from app.run_folder import LAST, RunFolder, run_of, runs

# Where and how a run is computed and what is shown of it: it may go on elsewhere.
ELSEWHERE = {
    "trainer": {
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "default_root_dir",
        "logger",
        "enable_progress_bar",
        "profiler",
        "plugins",
    },
    "data.init_args": {"root", "cache", "download", "loading"},
    "checkpoint": {"every_minutes"},
    "": {"ckpt_path", "weights_only", "config", "resume"},
}


def find_run(root: Path, name: str, config: dict[str, Any]) -> RunFolder | None:
    """The newest run that was begun with a configuration, on whatever machine.

    Args:
        root: The folder of all runs.
        name: The run's name.
        config: The resolved configuration.
    """
    wanted = what_is_trained(config)
    for run in runs(root, name):
        try:
            stored = yaml.safe_load(run.config.read_text())
        except (OSError, yaml.YAMLError):
            continue
        if isinstance(stored, dict) and what_is_trained(stored) == wanted:
            return run
    return None


def what_is_trained(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what may differ between two parts of one run."""
    kept = yaml.safe_load(yaml.safe_dump(config))
    for place, names in ELSEWHERE.items():
        part = kept
        for key in filter(None, place.split(".")):
            part = part.get(key) or {}
        for name in names & part.keys():
            del part[name]
    return dict(kept)


def sound_state(run: RunFolder) -> tuple[Path, dict[str, Any], list[Path]] | None:
    """The newest checkpoint of a run that can be read, its contents, and the newer ones that cannot.

    Returns:
        None where the run has no checkpoint yet.

    Raises:
        UsageError: If it has some and all are damaged.
    """
    damaged: list[Path] = []
    for path in run.states():
        try:
            return path, read_checkpoint(path), damaged
        except DamagedCheckpointError:
            damaged.append(path)
    if damaged:
        raise UsageError(
            f"none of the {len(damaged)} checkpoints of {run.path} can be read: move it away to start anew"
        )
    return None


def fallback_of(path: Path) -> RunFolder | None:
    """The run whose last checkpoint this is, so that the one before can stand in for it."""
    return run_of(path) if path.name == LAST else None
