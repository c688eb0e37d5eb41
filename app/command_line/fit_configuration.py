"""The configuration that `fit --ckpt_path` takes from a checkpoint to train on, where no file gives one."""

import re
from collections.abc import Container, Sequence
from typing import Any

import modules
from app.checkpoints.configuration import checkpoint_config, data_class
from app.checkpoints.resume_decision import NOT_COMPARED
from app.checkpoints.stored_configuration import CONFIGURATION
from app.command_line.arguments import option_values

OF_THE_MODEL = ("model", "data", "seed_everything")
NOT_TAKEN = ("trainer.default_root_dir", "trainer.fast_dev_run")  # where and whether the former run wrote

Config = dict[str, Any]


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
        config["model"] = {
            "class_path": _model_class(model[0]),
            "init_args": {"backbone": backbone} if backbone else {},
        }
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


def _model_class(name: str) -> str:
    """The path of a learner's class: "ProtoNet" -> "modules.ProtoNet"; of a class of the user's own what is given."""
    short = name.rpartition(".")[2]
    return f"modules.{short}" if isinstance(getattr(modules, short, None), type) else name


def _is_plain(value: Any) -> bool:
    """Tells whether a value makes no class: the parser imports what a dotted text names, in JSON or YAML text too."""
    if isinstance(value, str):
        return re.fullmatch(r"[\w:-]*|(train|val|test)/\w+", value) is not None
    return value is None or isinstance(value, bool | int | float)
