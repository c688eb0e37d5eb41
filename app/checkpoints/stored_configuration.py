"""The configuration that a checkpoint carries: what trained it."""

import re
from typing import Any

from app.checkpoints.configuration import checkpoint_config
from app.checkpoints.resume_decision import NOT_COMPARED, Shapes, Training

CONFIGURATION, IDENTITY, RUN_NAME = "configuration", "data_identity", "run_name"  # a checkpoint's keys

Config = dict[str, Any]


def own_entries(config: Config, identity: str, run_name: str) -> dict[str, Any]:
    """Returns the entries that say what trained a checkpoint, the same in all checkpoints of a run.

    Args:
        config: The resolved configuration, of which the options of the command itself are left out.
        identity: What its data are, `EpisodeDataModule.identity()`.
        run_name: The name of the folder of all runs of this configuration.
    """
    kept = {name: value for name, value in config.items() if name not in NOT_COMPARED}
    return {CONFIGURATION: kept, IDENTITY: identity, RUN_NAME: run_name}


def training_of(checkpoint: dict[str, Any]) -> Training:
    """The training that wrote a checkpoint; of one that does not carry its configuration, its model and its data."""
    config = checkpoint.get(CONFIGURATION) or checkpoint_config(checkpoint)
    return Training(config, str(checkpoint.get(IDENTITY, "")), shapes_of(checkpoint["state_dict"]))


def shapes_of(state: dict[str, Any]) -> Shapes:
    """The shape of each tensor of a state_dict, by name."""
    return {name: tuple(value.shape) for name, value in state.items()}


def of_classes(checkpoint: dict[str, Any], model: str, data: str) -> bool:
    """Tells whether a checkpoint is of a method and a data set, given by their class paths."""
    pairs = (("hyper_parameters", model), ("datamodule_hyper_parameters", data))
    return all(str(checkpoint[k]["_class_path"]).rpartition(".")[2] == v.rpartition(".")[2] for k, v in pairs)


def run_name_in(checkpoint: dict[str, Any]) -> str | None:
    """The name of the run that wrote a checkpoint; None where it does not say one that a folder may have."""
    name = checkpoint.get(RUN_NAME)
    return name if isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) else None
