"""The classes that a checkpoint names: taken where this process knows them already, never imported for its sake."""

import dataclasses
import re
import sys
import typing
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any

import torch

Bases = tuple[type[Any], ...]
PLAIN = (str, int, float, PurePath, Enum, NoneType)  # types of which a text can become a value and no class
CLASS, ARGUMENTS = "class_path", "init_args"
IMPORTABLE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


class UnknownClassError(ValueError):
    """A checkpoint names a class that would have to be imported.

    Args:
        where: The argument that names it, e.g. "model.backbone".
        class_path: Its name.
    """

    def __init__(self, where: str, class_path: object) -> None:
        super().__init__(
            f"{where} is {str(class_path)[:100]!r}, no class that is known here, and nothing is imported because a "
            "checkpoint names it"
        )
        self.where, self.class_path = where, str(class_path)


def check_classes(where: str, stored: Mapping[str, Any], bases: Bases, also: Collection[str] = ()) -> None:
    """Checks that a class and all that its arguments name are known, before anything is made of them.

    Args:
        where: What they are called, e.g. "model".
        stored: "class_path" and "init_args", as a configuration has them.
        bases: Whose subclasses are known: those that were imported before.
        also: Class paths that somebody else than the checkpoint has asked for.

    Raises:
        UnknownClassError: If one is not.
        ValueError: If an argument is of a kind that no configuration has.
    """
    kind = known_class(where, stored.get(CLASS), bases, also)
    arguments = {**_mapping(where, stored.get(ARGUMENTS)), **_mapping(where, stored.get("dict_kwargs"))}
    hints = _hints(kind)
    for name, value in arguments.items():
        _check_value(f"{where}.{name}", value, hints.get(str(name)), bases, also)


def check_checkpoint_classes(
    checkpoint_path: Any, *_: Any, bases: Bases, weights_only: bool | None = None, **given: Any
) -> None:
    """Checks the classes that a learner's checkpoint names, before Lightning makes it from them.

    Args:
        checkpoint_path: A file, as `load_from_checkpoint` takes it.
        bases: Whose subclasses are known.
        weights_only: False where the caller lets the file execute what it likes.
        given: Arguments that take the place of the checkpoint's.

    Raises:
        UnknownClassError: If one is not known.
        ValueError: If an argument is of a kind that no configuration has.
    """
    if weights_only is False or not isinstance(checkpoint_path, str | PurePath):
        return
    content = torch.load(checkpoint_path, map_location="meta", weights_only=True)
    stored = content.get("hyper_parameters") if isinstance(content, dict) else None
    if isinstance(stored, Mapping) and "_class_path" in stored:  # else nothing of it is taken for a class
        arguments = {name: value for name, value in stored.items() if name not in given and not name.startswith("_")}
        check_classes("model", {CLASS: stored["_class_path"], ARGUMENTS: arguments}, bases)


def subclasses(base: type[Any]) -> Iterator[type[Any]]:
    """All that this process has, however deep."""
    for kind in base.__subclasses__():
        yield kind
        yield from subclasses(kind)


def known_class(where: str, path: object, bases: Bases, also: Collection[str] = ()) -> type[Any]:
    """The class of a path, found without running anything: a module's own `__getattr__` may import.

    Raises:
        UnknownClassError: If it is not known.
    """
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    found = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if isinstance(found, type) and (path in also or any(found in subclasses(base) for base in bases)):
        return found
    raise UnknownClassError(where, path)


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if value is None or isinstance(value, Mapping):
        return value or {}
    raise ValueError(f"{where} has arguments of the kind {type(value).__name__}, where names and values belong")


def _hints(kind: type[Any]) -> dict[str, Any]:
    """The types of a class's arguments, those that it passes on to its bases among them, as far as they can be told."""
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        with suppress(Exception):  # a name that only a type checker sees
            hints |= typing.get_type_hints(base.__init__)  # type: ignore[misc]  # of a class, not of an instance
    return hints


def _check_value(where: str, value: Any, hint: Any, bases: Bases, also: Collection[str]) -> None:
    leaves = list(_leaves(hint))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # of those that a checkpoint may hold
        value = vars(value)
    if isinstance(value, Mapping) and CLASS in value:
        check_classes(where, value, bases, also)
    elif isinstance(value, Mapping):
        settings = [_hints(leaf) for leaf in leaves if isinstance(leaf, type) and dataclasses.is_dataclass(leaf)]
        for name, inner in value.items():
            inner_hint = next((hints[name] for hints in settings if name in hints), None if settings else hint)
            _check_value(f"{where}.{name}", inner, inner_hint, bases, also)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_value(where, inner, hint, bases, also)
    elif isinstance(value, str):
        if not _is_text(value, hint, leaves):  # where a class belongs, its bare path would be imported
            known_class(where, value, bases, also)
    elif not isinstance(value, int | float | None):
        raise ValueError(f"{where} is of the kind {type(value).__name__}, which no configuration holds")


def _is_text(value: str, hint: Any, leaves: list[Any]) -> bool:
    """Tells whether a text stays one, or becomes a number, whatever reads the configuration."""
    if hint is None:  # an argument of no known type
        return CLASS not in value and not IMPORTABLE.fullmatch(value)
    if any(leaf is Any for leaf in leaves):
        return CLASS not in value
    return all(leaf is Ellipsis or (isinstance(leaf, type) and issubclass(leaf, PLAIN)) for leaf in leaves)


def _leaves(hint: Any) -> Iterator[Any]:
    """The types that a type is made of, without the values of a Literal."""
    if typing.get_origin(hint) is typing.Literal:
        yield str
    elif parts := typing.get_args(hint):
        for part in parts:
            yield from _leaves(part)
    else:
        yield hint
