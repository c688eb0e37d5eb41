"""Reads a checkpoint's own configuration, so that `test`, `validate` and `predict` need nothing but its path."""

import inspect
from pathlib import Path
from typing import Any

import datamodules
from app.checkpoints.file import load_sound
from app.process.errors import UsageError
from datamodules import BankDataModule, EpisodeDataModule
from datamodules.objective import CLASSIFICATION, OBJECTIVES, Objective
from modules.learner.checkpoint_format import format_refusal

# What the entries of a checkpoint are, as far as commands read them.
KINDS: dict[str, type] = {
    "state_dict": dict,
    "global_step": int,
    "input_spec": dict,
    "objective": str,
    "trained_classes": list,
    "trained_by": list,
    "train_metrics": dict,
    "calibration": dict,
    "callbacks": dict,
    "loops": dict,
    "configuration": dict,
    "data_identity": str,
    "run_name": str,
}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Loads a checkpoint on the CPU, with nothing in it executed.

    Raises:
        DamagedCheckpointError: If it is not whole.
        UsageError: If it is not there, holds more than data, or is not a checkpoint of this application.
    """
    if not path.is_file():
        raise UsageError(f"--ckpt_path {path}: there is no such file")
    checkpoint = load_sound(path)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UsageError(f"--ckpt_path {path} is not a checkpoint: it holds no state_dict")
    for key in ("hyper_parameters", "datamodule_hyper_parameters"):
        stored = checkpoint.get(key, {})
        if not isinstance(stored, dict) or not isinstance(stored.get("_class_path"), str):
            raise UsageError(
                f"--ckpt_path {path} does not carry its configuration: it was not written by `train.py fit`"
            )
    if refusal := format_refusal(checkpoint):
        raise UsageError(f"{path}: {refusal}")
    for key, kind in KINDS.items():
        if key in checkpoint and not isinstance(checkpoint[key], kind):
            raise UsageError(
                f"--ckpt_path {path} was not written by `train.py fit`, or was changed: its {key} is of the kind "
                f"{type(checkpoint[key]).__name__} instead of {kind.__name__}"
            )
    learned = checkpoint.get("objective")
    if learned not in OBJECTIVES:
        raise UsageError(f"--ckpt_path {path} has learned {learned!r}: there is {' and '.join(OBJECTIVES)}")
    return dict(checkpoint)


def checkpoint_config(checkpoint: dict[str, Any], other_data: str | None = None) -> dict[str, Any]:
    """The configuration that a checkpoint was trained with, as a configuration file's content.

    Args:
        checkpoint: What `read_checkpoint` returned.
        other_data: The data set that is asked for in place of the checkpoint's own.

    Returns:
        `seed_everything`, `matmul_precision`, `model` and `data`, the last two with `class_path` and `init_args`; of
        the arguments of `data` those that `other_data` has too and that say nothing of where the data are. What links
        set stands there as well: it stays where other data lack the link's source.
    """
    config: dict[str, Any] = {"seed_everything": checkpoint["datamodule_hyper_parameters"].get("seed", 0)}
    if "matmul_precision" in checkpoint:
        config["matmul_precision"] = checkpoint["matmul_precision"]
    for key, stored in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters")):
        arguments = {name: value for name, value in checkpoint[stored].items() if not name.startswith("_")}
        config[key] = {"class_path": checkpoint[stored]["_class_path"], "init_args": arguments}
    if other_data is not None:
        config["data"] = {"class_path": other_data, "init_args": _shared(checkpoint, other_data)}
    return config


def data_class(name: str) -> str | None:
    """The path of a data set's class: "ImageFolder" -> "datamodules.ImageFolder"; None where there is none."""
    short = name.rpartition(".")[2]
    return f"datamodules.{short}" if isinstance(getattr(datamodules, short, None), type) else None


def _shared(checkpoint: dict[str, Any], other_data: str) -> dict[str, Any]:
    """The checkpoint's tasks, and the size and channels of its images, as arguments of another data set."""
    arguments = dict(checkpoint["datamodule_hyper_parameters"])
    tasks = set(inspect.signature(BankDataModule).parameters) - {"seed"}  # that of training
    spec = checkpoint.get("input_spec", {})
    images = dict(zip(("channels", "image_size"), spec.get("image_shape", ()), strict=False))
    arguments |= images | {"drawings": spec.get("ink") is not None}
    names = _argument_names(other_data) & {*tasks, *images, "drawings"}
    of_images = issubclass(getattr(datamodules, other_data.rpartition(".")[2]), BankDataModule)
    if not of_images or objective_of(checkpoint) is not CLASSIFICATION:
        names -= {"n_way", "k_shot", "n_query", "evaluation"}  # of classes of images
    return {name: value for name, value in arguments.items() if name in names}


def _argument_names(class_path: str) -> set[str]:
    return set(inspect.signature(getattr(datamodules, class_path.rpartition(".")[2])).parameters)


def check_same_method(checkpoint: dict[str, Any], path: Path, class_path: str) -> None:
    """Refuses to load one method's checkpoint into another.

    Raises:
        UsageError: If the checkpoint's model class is not `class_path`.
    """
    trained = checkpoint["hyper_parameters"]["_class_path"].rpartition(".")[2]
    asked = class_path.rpartition(".")[2]
    if trained != asked:
        raise UsageError(f"--ckpt_path {path} is a {trained}, and the configuration asks for a {asked}")


def objective_of(checkpoint: dict[str, Any]) -> Objective:
    """Returns what a checkpoint's data asked."""
    return OBJECTIVES[checkpoint["objective"]]


def check_same_objective(checkpoint: dict[str, Any], path: Path, data: EpisodeDataModule) -> None:
    """Refuses data that ask something else than a checkpoint has learned.

    Raises:
        UsageError: If the one is classification and the other regression.
    """
    learned, asked = objective_of(checkpoint).name, data.objective.name
    if learned != asked:
        trained = checkpoint["datamodule_hyper_parameters"]["_class_path"].rpartition(".")[2]
        raise UsageError(
            f"--ckpt_path {path} has learned {learned}, on {trained}, and {type(data).__name__} is {asked}: set --data "
            f"to data of {learned}, or --ckpt_path to a checkpoint of {asked}"
        )


def changed_arguments(checkpoint: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """Returns what a resumed run sets otherwise than the run it resumes, e.g. `model.inner_lr: 0.4 -> 0.1`.

    Args:
        checkpoint: What `read_checkpoint` returned.
        config: The resolved configuration, with `model` and `data`.
    """
    stored = checkpoint_config(checkpoint)
    changes = []
    for key in ("model", "data"):
        before, now = _flat(stored[key]["init_args"]), _flat(config[key]["init_args"])
        for name in before.keys() & now.keys():
            if before[name] != now[name]:
                changes.append(f"{key}.{name}: {before[name]} -> {now[name]}")
    return sorted(changes)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"outer": {"lr": 1}} as {"outer.lr": 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
