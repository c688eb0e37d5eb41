"""Which run `--resume auto` takes for the beginning of a command."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.checkpoints.resumption import find_run

CONFIG: dict[str, Any] = {
    "model": {
        "class_path": "modules.MAML",
        "init_args": {"n_way": 5, "outer": {"optimizer": "adam", "lr": 1e-3, "schedule": "constant"}},
    },
    "data": {"class_path": "datamodules.Omniglot", "init_args": {"split": "vinyals", "evaluation": {"n_way": None}}},
    "trainer": {"max_steps": 100},
}


def changed(place: str, value: object) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    *parts, last = place.split("/")
    inside = config
    for part in parts:
        inside = inside[part]
    inside[last] = value
    return config


@pytest.mark.parametrize(
    ("place", "value", "same"),
    [
        ("trainer/max_steps", 100, True),
        ("trainer/max_steps", 50, False),
        ("data/init_args/split", "lake", False),
        # Options that the run's version did not have.
        ("data/init_args/resize", "lanczos", True),
        ("data/init_args/resize", "nearest", False),
        ("data/init_args/evaluation/seed", 0, True),
        ("data/init_args/evaluation/seed", 1, False),
        ("data/init_args/augmentation", {"resized_crop": [0.5, 1.0]}, False),
        ("model/init_args/adapt_norm", True, True),
        ("model/init_args/adapt_norm", False, False),
        ("model/init_args/outer/clip_norm", None, True),
        ("model/init_args/outer/clip_norm", 1.0, False),
        ("a_section_of_its_own", {"x": 1}, True),
    ],
)
def test_an_option_that_a_run_does_not_know_must_be_at_its_default(
    tmp_path: Path, place: str, value: object, same: bool
) -> None:
    (tmp_path / "x" / "0").mkdir(parents=True)
    (tmp_path / "x" / "0" / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    assert (find_run(tmp_path, "x", changed(place, value)) is not None) == same
