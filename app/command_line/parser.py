"""The command line's parser: every error is one line that says what to do."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pytorch_lightning import callbacks, loggers
from pytorch_lightning.cli import LightningArgumentParser

import datamodules  # noqa: F401  (so that `--data Omniglot` finds its class)
from app.command_line.arguments import config_files, did_you_mean, option_values
from app.process.errors import UsageError, innermost, one_line
from datamodules.episode_data import EpisodeDataModule
from modules import Backbone, Learner


@dataclass
class Parsed:
    """What is being parsed, for messages: jsonargparse quotes only parts of it.

    Attributes:
        arguments: The command line.
        options: The command's options, without dashes.
    """

    arguments: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)


PARSED = Parsed()
NEEDS = "needs "  # how a message begins that names the arguments which a class is not given


class OneLineParser(LightningArgumentParser):
    """Lightning's parser, with errors raised as UsageError and a suggestion for a misspelt name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises what argparse would print over many lines."""
        raise UsageError(readable(message, PARSED)) from ex


def readable(message: str, parsed: Parsed) -> str:
    """One line for one of jsonargparse's messages.

    Args:
        message: What jsonargparse says.
        parsed: What was being parsed.
    """
    unknown = re.search(r"[Oo]ption '([^']+)'|unrecognized arguments: (\S+)", message)
    if unknown:
        return _unknown_option((unknown[1] or unknown[2]).partition("=")[0], parsed)
    key = re.search(r'Parser key "([^"]+)"', message)
    wrong_class = re.search(r"Expected a dot import path string: (\S+)", message)
    if key and wrong_class and key[1] in ("model", "data"):
        bases = {"model": Learner, "data": EpisodeDataModule, "model.backbone": Backbone}
        of_backbone = wrong_class[1] in option_values(parsed.arguments, "--model.backbone")
        option = "model.backbone" if of_backbone else key[1]
        names = [kind.__name__ for kind in _subclasses(bases[option])]
        hint = did_you_mean(wrong_class[1], names) or f"; there are {', '.join(names)}"
        return f"--{option}: no class {wrong_class[1]!r}{hint}"
    required = re.search(r"arguments are required: (.+)", message)
    if required:
        missing = sorted(set(re.findall(r"\b(?:model|data)\b", required[1])))
        if not missing:
            return f"{NEEDS}{required[1]}"
        return f"no {' and no '.join(missing)} given: name a file with --config, e.g. one of those in configs/"
    if "expected one argument" in message:
        return f"{parsed.arguments[-1]} needs a value"
    if "Problems parsing config" in message:
        files = ", ".join(config_files(parsed.arguments))
        problem = one_line(message.partition(":")[2]).replace('in "<unicode string>", ', "at ")
        return f"{files}: not a YAML file: {problem}"
    if key:
        return _wrong_value(key[1], message, parsed)
    return one_line(message)


def option_names(parser: LightningArgumentParser) -> Iterator[str]:
    """Every option of a command without its dashes, those of all models, backbones and data sets among them."""
    for action in parser._actions:
        yield from (option[2:] for option in action.option_strings if option.startswith("--"))
    for key, base in (("model", Learner), ("data", EpisodeDataModule), ("model.backbone", Backbone)):
        for kind in _subclasses(base):
            yield from (f"{key}.{name}" for name in _argument_names(kind))


def _wrong_value(key: str, message: str, parsed: Parsed) -> str:
    name, given = _full_name(key, parsed), (option_values(parsed.arguments, f"--{key}") or [""])[-1]
    no_import = re.search(r"Expected a dot import path string: (\S+)", message)
    if no_import and no_import[1] == given:
        known = [*loggers.__all__, *callbacks.__all__] if key in ("trainer.logger", "trainer.callbacks") else []
        return f"{name}: there is no class {given!r}{did_you_mean(given, known)}"
    literals = re.findall(r"typing\.Literal\[([^\]]+)\]", message)
    detail = innermost(message.partition(":")[2])
    if re.match(r"^-{0,2}[\w.]+( in \S+)?: ", detail):  # a message of this parser, one level further in
        return detail if detail.startswith("-") else f"{key}.{detail}"
    if literals:
        choices = dict.fromkeys(choice.strip(" '\"") for group in literals for choice in group.split(","))
        got = re.search(r"(?:Got|Given) value: (\S+)", message)
        detail = f"expected one of {', '.join(choices)}, got {got[1] if got else 'something else'}"
    detail = re.sub(r"^Expected an? (\S+)\. Got value: ", r"expected \1, got ", detail)
    no_class = re.search(r"class_path '([\w.]+)': .*has no attribute", detail)
    if no_class:
        names = [kind.__name__ for base in (Learner, EpisodeDataModule, Backbone) for kind in _subclasses(base)]
        detail = f"there is no class {no_class[1]}{did_you_mean(no_class[1].rpartition('.')[2], names)}"
    if detail.startswith("no option"):
        return detail
    if detail.startswith(NEEDS):
        return f"{name} {given}".rstrip() + f" {detail}: set {name}.{detail.removeprefix(NEEDS).partition(',')[0]}"
    where = "" if name.startswith("--") else "".join(f" in {file}" for file in config_files(parsed.arguments)[-1:])
    return f"{name}{where}: {detail}"


def _unknown_option(name: str, parsed: Parsed) -> str:
    if not name.startswith("-") and name in parsed.arguments:
        return f"unexpected argument {name!r}"
    full = _full_name(name.lstrip("-"), parsed)
    named = (option for option in parsed.options if not option.endswith(".help"))
    known = dict.fromkeys(option.replace(".init_args.", ".") for option in named)
    if full.startswith("--"):
        wanted = full[2:].replace(".init_args.", ".")
        return f"no option {full}{did_you_mean(wanted, known).replace('mean ', 'mean --')}"
    last = {option.rpartition(".")[2]: option for option in known}  # a file's messages carry only a name's end
    files = " and ".join(config_files(parsed.arguments)) or "the configuration"
    return f"no option {full} in {files}{did_you_mean(full, known) or did_you_mean(full, last)}"


def _full_name(name: str, parsed: Parsed) -> str:
    """The option as it was typed, where jsonargparse quotes only its end."""
    typed = (argument.partition("=")[0] for argument in parsed.arguments if argument.startswith("--"))
    return next((option for option in typed if option.endswith(name)), name)


def _argument_names(kind: type[Any]) -> Iterator[str]:
    for name, parameter in inspect.signature(kind).parameters.items():
        yield name
        if dataclasses.is_dataclass(parameter.default):
            yield from (f"{name}.{member.name}" for member in dataclasses.fields(parameter.default))


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _subclasses(kind)
