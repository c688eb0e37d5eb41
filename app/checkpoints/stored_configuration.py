"""The configuration that a checkpoint carries: what trained it, and what `fit` takes from it to train on."""

import re
from collections.abc import Container, Sequence
from typing import Any

import modules
from app.checkpoints.configuration import checkpoint_config, data_class
from app.checkpoints.continuation import NOT_COMPARED, Shapes, Training
from app.command_line.arguments import option_values

CONFIGURATION, IDENTITY, RUN_NAME = "configuration", "data_identity", "run_name"  # a checkpoint's keys
OF_THE_MODEL = ("model", "data", "seed_everything")
NOT_TAKEN = ("trainer.default_root_dir", "trainer.fast_dev_run")  # where and whether the former run wrote

Config = dict[str, Any]


def stored(config: Config) -> Config:
    """Returns the part of a run's configuration that a checkpoint keeps."""
    return {name: value for name, value in config.items() if name not in NOT_COMPARED}


def training_of(checkpoint: dict[str, Any]) -> Training:
    """The training that wrote a checkpoint; of one that does not carry its configuration, its model and its data."""
    config = checkpoint.get(CONFIGURATION) or checkpoint_config(checkpoint)
    return Training(config, str(checkpoint.get(IDENTITY, "")), shapes_of(checkpoint["state_dict"]))


def shapes_of(state: dict[str, Any]) -> Shapes:
    """The shape of each tensor of a state_dict, by name."""
    return {name: tuple(value.shape) for name, value in state.items()}


def model_class(name: str) -> str:
    """The path of a learner's class: "ProtoNet" -> "modules.ProtoNet"; of a class of the user's own what is given."""
    short = name.rpartition(".")[2]
    return f"modules.{short}" if isinstance(getattr(modules, short, None), type) else name


def of_classes(checkpoint: dict[str, Any], model: str, data: str) -> bool:
    """Tells whether a checkpoint is of a method and a data set, given by their class paths."""
    pairs = (("hyper_parameters", model), ("datamodule_hyper_parameters", data))
    return all(str(checkpoint[k]["_class_path"]).rpartition(".")[2] == v.rpartition(".")[2] for k, v in pairs)


def run_name_in(checkpoint: dict[str, Any]) -> str | None:
    """The name of the run that wrote a checkpoint; None where it does not say one that a folder may have."""
    name = checkpoint.get(RUN_NAME)
    return name if isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) else None


def fit_configuration(checkpoint: dict[str, Any], arguments: Sequence[str], options: Container[str]) -> Config:
    """Returns the configuration that a checkpoint was trained with, for a `fit` without a configuration file.

    A method or a data set that the command line names takes the place of the checkpoint's own; of the former method the
    backbone is left. Options that name classes, of which a checkpoint may make none, are left out.

    Args:
        checkpoint: What `read_checkpoint` returned.
        arguments: The command line.
        options: The options there are, without dashes.

    Returns:
        A configuration file's content.
    """
    model, data = (option_values(arguments, option)[-1:] for option in ("--model", "--data"))
    own_data = data_class(checkpoint["datamodule_hyper_parameters"]["_class_path"])
    other_data = data_class(data[0]) if data else None
    config = checkpoint_config(checkpoint, other_data if other_data != own_data else None)
    if model and model[0].rpartition(".")[2] != config["model"]["class_path"].rpartition(".")[2]:
        backbone = config["model"]["init_args"].get("backbone")
        config["model"] = {"class_path": model_class(model[0]), "init_args": {"backbone": backbone} if backbone else {}}
    for section, values in (checkpoint.get(CONFIGURATION) or {}).items():
        if section in (*OF_THE_MODEL, *NOT_COMPARED):
            continue
        if isinstance(values, dict):
            kept = {name: value for name, value in values.items() if _is_plain(value)}
            taken = {name: v for name, v in kept.items() if f"{section}.{name}" in options}
            config[section] = {name: v for name, v in taken.items() if f"{section}.{name}" not in NOT_TAKEN}
        elif section in options and _is_plain(values):
            config[section] = values
    return config


def _is_plain(value: Any) -> bool:
    """Tells whether a value makes no class: the parser imports what a dotted text names, in JSON or YAML text too."""
    if isinstance(value, str):
        return re.fullmatch(r"[\w:-]*|(train|val|test)/\w+", value) is not None
    return value is None or isinstance(value, bool | int | float)
