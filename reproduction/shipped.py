"""What the shipped configurations say: their settings, and the comments at their heads."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from reproduction.experiments import Experiment

ROOT = Path(__file__).resolve().parents[1]


def settings_of(config: str) -> dict[str, Any]:
    """The content of configs/CONFIG.yaml."""
    return dict(yaml.safe_load(_text_of(config)))


def iterations_of(config: str) -> int:
    """Outer steps of a configuration, at most."""
    return int(settings_of(config)["trainer"]["max_steps"])


def shipped_hash(experiment: Experiment) -> str:
    """Twelve digits that change with the settings of an experiment: its configuration's and its own."""
    settings = [settings_of(experiment.config), list(experiment.options), list(experiment.test_options or ())]
    return digits_of(settings)


def digits_of(settings: Any) -> str:
    """Twelve digits of a SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def head_of(config: str) -> str:
    """The comment lines at the head of configs/CONFIG.yaml, without their marks."""
    comment = []
    for line in _text_of(config).splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(comment)


def deviations(config: str) -> list[str]:
    """Returns what is done otherwise than in the paper, by the configuration's head, a sentence or two each."""
    _, _, text = head_of(config).partition("Deviations:\n")
    found: list[str] = []
    for line in text.splitlines():
        if line.startswith("- "):
            found.append(line.removeprefix("- "))
        elif found:
            found[-1] += " " + line.strip()
    return found


def common_deviations() -> str:
    """The list of what is done otherwise than in many papers, to which the heads of the configurations refer."""
    text = (ROOT / "docs" / "reproduction.md").read_text("utf-8")
    section = text.partition("## Deviations that hold for all\n")[2].partition("\n## ")[0]
    return "".join(f"{line}\n" for line in section.splitlines() if line.startswith("- "))


def _text_of(config: str) -> str:
    return (ROOT / "configs" / f"{config}.yaml").read_text("utf-8")
