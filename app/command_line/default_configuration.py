"""The configuration of a `fit` without a file: a network that fits the data, in a run named for method and data."""

import inspect
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

import datamodules
import modules
from app.command_line.arguments import DEFAULT_CONFIG, option_values
from datamodules.episode_data import EpisodeDataModule
from datamodules.images.bank_data import BankDataModule
from datamodules.objective import CLASSIFICATION
from modules import Learner

TASK_ARGUMENTS = ("n_way", "k_shot", "n_query", "meta_batch_size", "evaluation")

Config = dict[str, Any]


def default_configuration(arguments: Sequence[str]) -> Config:
    """The default configuration, with the method and the data set that the command line names in place of its own.

    Of another method nothing but its defaults is left; of another data set of images the sizes of the tasks.

    Args:
        arguments: The command line.
    """
    config: Config = yaml.safe_load(DEFAULT_CONFIG.read_text())
    model, data = (option_values(arguments, option)[-1:] for option in ("--model", "--data"))
    of_images = True
    if data and not _same_class(data[0], config["data"]["class_path"]):
        kind = _class_of(datamodules, data[0])
        of_images = kind is not None and issubclass(kind, BankDataModule)
        kept = {name: v for name, v in config["data"]["init_args"].items() if of_images and name in TASK_ARGUMENTS}
        config["data"] = {"class_path": data[0], "init_args": kept}
    named = model[0] if model else config["model"]["class_path"]
    if not of_images or not _same_class(named, config["model"]["class_path"]):
        chosen = option_values(arguments, "--model.backbone", "--model.init_args.backbone")
        backbone = {"class_path": chosen[-1]} if chosen else _own_backbone(named, of_images)
        config["model"] = {"class_path": named, "init_args": {} if backbone is None else {"backbone": backbone}}
    return config


def default_run_name(arguments: Sequence[str]) -> str:
    """The run's name where no configuration file gives it one.

    Args:
        arguments: The command line.
    """
    config = default_configuration(arguments)
    for name in ("n_way", "k_shot"):
        if said := option_values(arguments, f"--data.{name}", f"--data.init_args.{name}"):
            with suppress(ValueError):  # the parser says what is wrong with it
                config["data"].setdefault("init_args", {})[name] = json.loads(said[-1])
    return run_name_of(config["model"]["class_path"], config["data"])


def run_name_of(model_class: str, data: Config) -> str:
    """A run's name by its method, data and tasks: "maml_glyphs_5w1s", in regression "maml_sinusoid_10s".

    Args:
        model_class: The learner's class path.
        data: The data set's class_path and init_args.
    """
    kind = _class_of(datamodules, data["class_path"])
    sizes = {name: _size(name, data.get("init_args") or {}, kind) for name in ("n_way", "k_shot")}
    classifies = kind is None or kind.objective is CLASSIFICATION
    task = f"{sizes['n_way']}w{sizes['k_shot']}s" if classifies else f"{sizes['k_shot']}s"
    return "_".join([_snake(modules, model_class), _snake(datamodules, data["class_path"]), task])


def fitting_backbone(model: Config, data: Config, arguments: Sequence[str]) -> Config | None:
    """The backbone of the class that is configured, made for the inputs of the data.

    Args:
        model: The learner's class_path and init_args.
        data: The data set's.
        arguments: The command line, whose own options stay as they are.

    Returns:
        The backbone's class_path and init_args; None where there is none of ours.
    """
    shape = _input_shape(data)
    given = (model.get("init_args") or {}).get("backbone")
    kind = _class_of(modules, given["class_path"]) if given else None
    if given is None or kind is None:
        return None
    sizes: Config = {"input_shape": list(shape)}
    if len(shape) == 3:
        sizes |= {"in_channels": shape[0], "image_size": shape[1]}
    free = _parameters(kind) - _said(arguments)
    init_args = dict(given.get("init_args") or {}) | {name: value for name, value in sizes.items() if name in free}
    return {"class_path": given["class_path"], "init_args": init_args}


def _own_backbone(model_class: str, of_images: bool) -> Config | None:
    """The backbone of a method that no argument gives; None of one that has none, or of a class of the user's own."""
    learner = _class_of(modules, model_class)
    if learner is None or "backbone" not in _parameters(learner):
        return None
    if not of_images:
        return {"class_path": "modules.MLP", "init_args": {}}
    if not issubclass(learner, Learner):
        return None
    kind = learner.default_backbone_class.__name__
    return {"class_path": f"modules.{kind}", "init_args": dict(learner.default_backbone)}


def _input_shape(data: Config) -> tuple[int, ...]:
    """Returns the shape of what the data set gives a network; nothing is read for it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(EpisodeDataModule, "data")
    built = parser.instantiate_classes(parser.parse_object({"data": data}))
    return tuple(built["data"].input_shape)


def _said(arguments: Sequence[str]) -> set[str]:
    """The options of the backbone that the command line sets."""
    names = (argument.partition("=")[0].replace(".init_args.", ".") for argument in arguments)
    return {name.removeprefix("--model.backbone.") for name in names if name.startswith("--model.backbone.")}


def _size(name: str, init_args: Config, kind: type[Any] | None) -> str:
    """A size of the training tasks, as a name has it: "5", or "5to20" of two."""
    default = inspect.signature(kind).parameters[name].default if kind is not None and name in _parameters(kind) else 1
    value = init_args.get(name, default)
    return "to".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _same_class(name: str, class_path: str) -> bool:
    return name.rpartition(".")[2] == class_path.rpartition(".")[2]


def _class_of(package: Any, name: str) -> type[Any] | None:
    """A class by its name or path; None where it is not one of ours."""
    kind = getattr(package, name.rpartition(".")[2], None)
    return kind if isinstance(kind, type) else None


def _parameters(kind: type[Any]) -> set[str]:
    return set(inspect.signature(kind).parameters)


def _snake(package: Any, name: str) -> str:
    """A class's name in a run's: that of its file, which a class shares with no other; else its own."""
    kind = _class_of(package, name)
    if kind is None:
        return Path(name.rpartition(".")[2]).name.lower()
    exported = (_class_of(package, other) for other in package.__all__)
    alone = [other for other in exported if other is not None and other.__module__ == kind.__module__] == [kind]
    return kind.__module__.rpartition(".")[2] if alone else kind.__name__.lower()
