"""Looks at the command line before anything heavy is imported: its command, its files, its run's name."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from app.checkpoints.linked_options import LINKED
from app.command_line.secret_values import refuse_secrets
from app.process.errors import UsageError

CONFIG_FOLDER = Path(__file__).parents[2] / "configs"
DEFAULT_CONFIG = CONFIG_FOLDER / "maml_glyphs_5w1s.yaml"

# Lightning's options that manual optimization cannot use, and the learners' own.
LEARNERS_OWN = {
    "trainer.gradient_clip_val": "model.outer.clip_norm",
    "trainer.gradient_clip_algorithm": "model.outer.clip_value",
    "trainer.accumulate_grad_batches": "model.outer.accumulate_batches",
}


def did_you_mean(wrong: str, candidates: Iterable[str]) -> str:
    """A half sentence with the nearest candidate, or nothing where none is near."""
    others = [candidate for candidate in candidates if candidate != wrong]  # the same of another class is no help
    near = difflib.get_close_matches(wrong, others, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def option_values(arguments: Sequence[str], *names: str) -> list[str]:
    """The values given to an option, as `--name value` or `--name=value`, in order."""
    values = []
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name not in names:
            continue
        if equals:
            values.append(value)
        elif position + 1 < len(arguments):
            values.append(arguments[position + 1])
    return values


def without_option(arguments: Sequence[str], name: str) -> list[str]:
    """The command line without an option and its value."""
    kept = []
    skip = False
    for argument in arguments:
        if skip or argument.partition("=")[0] == name:
            skip = not skip and argument == name
            continue
        kept.append(argument)
    return kept


def config_files(arguments: Sequence[str]) -> list[str]:
    """The configuration files that are named on the command line."""
    return option_values(arguments, "--config", "-c")


def check_arguments(arguments: Sequence[str], commands: Collection[str]) -> None:
    """Refuses what can be seen to be wrong without knowing the models.

    Args:
        arguments: The command line.
        commands: Those that there are.

    Raises:
        UsageError: For a secret, an unknown command, a missing file, or an option that has no effect here.
    """
    refuse_secrets(arguments, config_files(arguments))
    command = arguments[0]
    if command not in commands:
        hint = did_you_mean(command, commands) or f"; the commands are {', '.join(commands)}"
        raise UsageError(f"no command {command!r}{hint}")
    for file in config_files(arguments):
        if not file.lstrip().startswith("{") and not Path(file).is_file():
            shipped = {path.name: path for path in [*CONFIG_FOLDER.glob("*.yaml"), *Path(file).parent.glob("*.yaml")]}
            near = difflib.get_close_matches(Path(file).name, list(shipped), n=1)
            hint = f"; did you mean {_short(shipped[near[0]])}?" if near else ""
            raise UsageError(f"--config {file}: there is no such file{hint}")
    for argument in arguments:
        name = argument.partition("=")[0].removeprefix("--").replace(".init_args.", ".")
        if argument.startswith("--") and name in LINKED:
            raise UsageError(f"--{name} follows --{LINKED[name]}: set that one")
        if argument.startswith("--") and name in LEARNERS_OWN:
            raise UsageError(f"--{name} has no effect on a learner that steps by itself: set --{LEARNERS_OWN[name]}")


def run_name(arguments: Sequence[str]) -> str:
    """The folder under runs/: the first configuration file's stem, or the default one's.

    A run's own config.yaml names its run.
    """
    for file in config_files(arguments):
        path = Path(file)
        if path.name == "config.yaml" and (path.parent / "checkpoints").is_dir():
            return path.absolute().parent.parent.name
        if path.is_file():
            return path.stem
    return DEFAULT_CONFIG.stem


def _short(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
