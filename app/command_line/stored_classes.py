"""A checkpoint's configuration before it is used: it imports nothing, downloads nothing, chooses no place to write."""

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from app.command_line.arguments import config_files, option_values
from app.process.errors import UsageError
from datamodules import EpisodeDataModule
from datamodules.images.cache import only_read
from modules import Backbone, Learner
from modules.learner.class_paths import CLASS, UnknownClassError, check_classes, known_class

BASES = (Learner, Backbone, EpisodeDataModule)
OPTIONS = {"model": "--model", "data": "--data"}


def check_stored_classes(path: Path, config: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Checks that a checkpoint's configuration names only classes that are known, or that the command line names too.

    Args:
        path: The checkpoint.
        config: What `checkpoint_config` made of it.
        arguments: The command line.

    Raises:
        UsageError: If it names another, or holds what no configuration does.
    """
    named = set(_texts_of_the_user(arguments))
    for key in OPTIONS:
        try:
            _import_those(named & set(_class_paths(config[key])))
            check_classes(key, config[key], BASES, named)
        except UnknownClassError as error:
            option = f"--{error.where} {error.class_path[:100]}"
            raise UsageError(f"--ckpt_path {path}: {error}; if you trust it, name it yourself: {option}") from error
        except ValueError as error:
            raise UsageError(f"--ckpt_path {path}: {error}") from error


def without_download(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration, whose data are not downloaded; `--data.download true` on the command line comes after it."""
    data = config["data"]
    if "download" in inspect.signature(known_class("data", data["class_path"], BASES)).parameters:
        data["init_args"]["download"] = False
    return config


def protect_places(path: Path, stored: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Makes caches leave alone the folders that a checkpoint names and the command line does not.

    What lies there already is read; what is made anew goes into the user's cache folder.

    Args:
        path: The checkpoint.
        stored: The arguments of its data.
        arguments: The command line.

    Raises:
        UsageError: If a place cannot be one.
    """
    places = []
    for name, value in stored.items():
        if isinstance(value, str) and not name.startswith("_") and not _is_given(f"data.{name}", arguments):
            try:
                places.append(Path(value).expanduser().resolve())
            except (OSError, RuntimeError, ValueError) as error:
                reason = f"--ckpt_path {path}: data.{name} is {value[:100]!r}, no place on this machine ({error})"
                raise UsageError(f"{reason}: set --data.{name}") from error
    only_read(places)


def import_named_classes(arguments: Sequence[str]) -> None:
    """Imports the learner and the data set that the command line names, itself or in a file.

    What cannot be imported is left to the parser, which says why.

    Args:
        arguments: The command line.
    """
    named = set(option_values(arguments, *OPTIONS.values()))
    for config in _configurations(arguments):
        parts = (config.get(key) for key in OPTIONS)
        named |= {str(part.get(CLASS)) for part in parts if isinstance(part, dict)}
    for path in named:
        if re.fullmatch(r"\w+(\.\w+)+", path):
            with suppress(Exception):  # whatever a module of the user's own raises
                importlib.import_module(path.rpartition(".")[0])


def _is_given(name: str, arguments: Sequence[str]) -> bool:
    """Tells whether the command line sets an option, itself or in a file."""
    key, _, argument = name.partition(".")
    if option_values(arguments, f"--{name}", f"--{key}.init_args.{argument}"):
        return True
    parts = (config.get(key) for config in _configurations(arguments))
    return any(argument in (part.get("init_args") or part) for part in parts if isinstance(part, dict))


def _configurations(arguments: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The contents of the files that the command line names."""
    for file in config_files(arguments):
        with suppress(OSError, yaml.YAMLError):
            content = yaml.safe_load(file if file.lstrip().startswith("{") else Path(file).read_text("utf-8"))
            if isinstance(content, dict):
                yield content


def _texts_of_the_user(arguments: Sequence[str]) -> Iterator[str]:
    """All that stands on the command line or in its files."""
    for argument in arguments:
        yield from (argument, argument.partition("=")[2])
    for config in _configurations(arguments):
        yield from _texts(config)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def _class_paths(value: Any) -> Iterator[str]:
    """Yields the class paths that a configuration names, however deep."""
    if isinstance(value, Mapping):
        yield from (path for name, path in value.items() if name == CLASS and isinstance(path, str))
    if isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _class_paths(inner)


def _import_those(paths: set[str]) -> None:
    """Imports what the user has named; what cannot be imported is refused with the rest."""
    for path in paths:
        with suppress(ImportError, ValueError):
            importlib.import_module(path.rpartition(".")[0])
