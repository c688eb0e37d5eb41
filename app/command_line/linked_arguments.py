"""A learner's arguments that follow the data's: those that learner and data share by name."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytorch_lightning.cli import LightningArgumentParser

from app.checkpoints.linked_options import NOT_LINKED
from app.process.errors import UsageError
from datamodules.episode_data import EpisodeDataModule
from datamodules.tasks.task_sizes import Count, largest
from modules import Learner
from modules.learner.class_paths import subclasses

NO_NAMES = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # *args and **kwargs


def linked_names() -> list[str]:
    """Returns the names that a learner and a data set share, of all that are imported: a pair need not have them."""
    shared = {parameter.name for parameter in _parameters(Learner)} & {p.name for p in _parameters(EpisodeDataModule)}
    return sorted(shared - NOT_LINKED)


def link_to_data(parser: LightningArgumentParser, names: Sequence[str], kept: Callable[[], Mapping[str, Any]]) -> None:
    """Makes arguments of the learner follow those of the data.

    A link has no effect where the configured learner or the configured data set has no such argument.

    Args:
        parser: A command's.
        names: Those of the arguments.
        kept: Returns the learner's arguments that stay as they are, those of a checkpoint that is not trained on.
    """
    ranges = {p.name for p in _parameters(EpisodeDataModule) if p.annotation == Count}
    for name in names:
        follow = _following(name, name in ranges, kept)
        parser.link_arguments(f"data.init_args.{name}", f"model.init_args.{name}", follow)


def refuse_linked(arguments: Sequence[str], names: Sequence[str]) -> None:
    """Refuses an option that the data's option of the same name sets.

    Args:
        arguments: The command line.
        names: Those of the linked arguments.

    Raises:
        UsageError: If there is one.
    """
    for argument in arguments:
        option = argument.partition("=")[0].replace(".init_args.", ".")
        name = option.removeprefix("--model.")
        if option != name and name in names:
            raise UsageError(f"{option} follows --data.{name}: set that one")


def _following(name: str, is_range: bool, kept: Callable[[], Mapping[str, Any]]) -> Callable[[Any], Any]:
    def as_in_the_data(value: Any) -> Any:
        """Returns the data's value, of two sizes of tasks the larger one: a network must be large enough for both."""
        arguments = kept()
        if name in arguments:
            return arguments[name]
        return largest(value) if is_range else value

    return as_in_the_data


def _parameters(base: type[Any]) -> Iterator[inspect.Parameter]:
    """The constructor parameters of a class and of all imported classes below it."""
    for kind in (base, *subclasses(base)):
        yield from (p for p in inspect.signature(kind).parameters.values() if p.kind not in NO_NAMES)
