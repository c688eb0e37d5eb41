"""The command line's parser: every error is one line that says what to do."""

import dataclasses
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import LightningArgumentParser

from app.arguments import did_you_mean
from app.errors import UsageError, one_line
from datamodules.base import EpisodeDataModule
from modules import Learner

COMMAND_LINE: list[str] = []  # what is being parsed; jsonargparse's messages quote only parts of it


class OneLineParser(LightningArgumentParser):
    """Lightning's parser, with errors raised as UsageError and a suggestion for a misspelt name."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises what argparse would print over many lines."""
        raise UsageError(readable(message, COMMAND_LINE, list(_option_names(self)))) from ex


def readable(message: str, arguments: Sequence[str], options: Sequence[str]) -> str:
    """One line for one of jsonargparse's messages.

    Args:
        message: What jsonargparse says.
        arguments: The command line.
        options: The options there are, to suggest one.
    """
    unknown = re.search(r"[Oo]ption '([^']+)'|unrecognized arguments: (\S+)", message)
    if unknown:
        return _unknown_option((unknown[1] or unknown[2]).partition("=")[0].lstrip("-"), arguments, options)
    key = re.search(r'Parser key "([^"]+)"', message)
    wrong_class = re.search(r"Expected a dot import path string: (\S+)", message)
    if key and wrong_class and key[1] in ("model", "data"):
        names = [kind.__name__ for kind in _subclasses(Learner if key[1] == "model" else EpisodeDataModule)]
        hint = did_you_mean(wrong_class[1], names) or f"; there are {', '.join(names)}"
        return f"--{key[1]}: no class {wrong_class[1]!r}{hint}"
    required = re.search(r"arguments are required: (.+)", message)
    if required:
        names_needed = re.findall(r"\b(?:model|data)\b", required[1])
        return f"no {' and no '.join(sorted(set(names_needed)))} given: name a file with --config, e.g. one of configs/"
    if key and "\n" in message:
        detail = re.sub(r"<class '([\w.]+)'>", r"\1", one_line(message.partition("\n")[2]).lstrip("- "))
        return f"{_full_name(key[1], arguments)}: {detail[:1].lower() + detail[1:]}"
    return one_line(message)


def _unknown_option(name: str, arguments: Sequence[str], options: Sequence[str]) -> str:
    full = _full_name(name, arguments)
    known = {option.replace(".init_args.", "."): option for option in options}
    wanted = full.lstrip("-").replace(".init_args.", ".")
    hint = did_you_mean(wanted, known)
    if not hint and "." not in wanted:  # from a file: only the last part of its name is known
        last = {option.rpartition(".")[2]: option for option in known}
        near = did_you_mean(wanted, last)
        hint = near.replace(near[len("; did you mean ") : -1], last[near[len("; did you mean ") : -1]]) if near else ""
    return f"no option {full}{hint.replace('mean ', 'mean --')}"


def _full_name(name: str, arguments: Sequence[str]) -> str:
    """The option as it was typed, where jsonargparse quotes only its end."""
    typed = (argument.partition("=")[0] for argument in arguments if argument.startswith("--"))
    return next((option for option in typed if option.endswith(name)), name)


def _option_names(parser: LightningArgumentParser) -> Iterator[str]:
    """Every option of a command without its dashes, those of all models and data sets among them."""
    for action in parser._actions:
        yield from (option[2:] for option in action.option_strings if option.startswith("--"))
    for key, base in (("model", Learner), ("data", EpisodeDataModule)):
        for kind in _subclasses(base):
            yield from (f"{key}.{name}" for name in _argument_names(kind))


def _argument_names(kind: type[Any]) -> Iterator[str]:
    for name, parameter in inspect.signature(kind).parameters.items():
        yield name
        if dataclasses.is_dataclass(parameter.default):
            yield from (f"{name}.{field.name}" for field in dataclasses.fields(parameter.default))


def _subclasses(base: type[LightningModule] | type[LightningDataModule]) -> Iterator[type[Any]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _subclasses(kind)
