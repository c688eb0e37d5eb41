"""The part of a configuration that decides what a training computes. Imports nothing heavy."""

from typing import Any

import yaml

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
    "": {"ckpt_path"},
}


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
