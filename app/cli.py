"""The commands, and `main`, which runs one. Nothing heavy is imported before the command line has been looked at."""

import gc
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from app.command_line.arguments import check_arguments
from app.process.errors import one_line_errors
from app.process.signals import StopSignals


@dataclass(frozen=True)
class Command:
    """One command.

    Args:
        summary: One line of help.
        where: "module:function". The module is imported only to run the command. The function is called with the
            command line without the program's name, a list of str, and the StopSignals that end it.
    """

    summary: str
    where: str


COMMANDS = {
    "fit": Command(
        "train, then test the best checkpoint; without --config: configs/maml_glyphs_5w1s.yaml",
        "app.application:Application",
    ),
    "validate": Command("evaluate a checkpoint on the validation tasks", "app.application:Application"),
    "test": Command("evaluate a checkpoint on the test tasks", "app.application:Application"),
    "predict": Command(
        "learn your own classes from a few images of each and classify others; or answer the test tasks",
        "app.application:Application",
    ),
    "export": Command(
        "adapt a checkpoint to your own classes and write the classifier for ONNX Runtime and PyTorch",
        "app.export_command:main",
    ),
}

OVERVIEW = """\
usage: python train.py COMMAND [options]

Quickstudy trains models that learn new classes from a handful of examples.

commands:
{commands}

examples:
  python train.py fit
  python train.py fit --config configs/maml_omniglot_5w1s.yaml --model.inner_lr 0.3 --trainer.devices 2
  python train.py fit --config configs/maml_omniglot_5w1s.yaml --resume auto    resumes where it was stopped, or begins
  python train.py fit --ckpt_path runs/maml_glyphs_5w1s/0 --trainer.max_steps 800    trains on what is there
  python train.py test --ckpt_path runs/maml_glyphs_5w1s/0 --data.evaluation.n_test_tasks 2000
  python train.py predict --ckpt_path best --data SupportQuery --data.support my_classes --data.query my_images
  python train.py export --ckpt_path runs/maml_glyphs_5w1s/0 --data SupportQuery --data.support my_classes

`python train.py COMMAND --help` lists a command's options, `python train.py fit --model.help MAML` a method's,
and `python train.py fit --data.help Omniglot` a data set's. QUICKSTUDY_DEBUG=1 shows an error's traceback.
"""


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command; ends in SystemExit where it fails, after one line on stderr.

    Args:
        args: The command line without the program's name; None: sys.argv's.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(), end="")
        return
    with one_line_errors(), StopSignals() as signals:
        check_arguments(arguments, COMMANDS)
        _function_of(COMMANDS[arguments[0]])(arguments, signals)


def overview() -> str:
    """Returns the help of the whole program."""
    width = max(map(len, COMMANDS)) + 3
    lines = (f"  {name:<{width}}{command.summary}" for name, command in COMMANDS.items())
    return OVERVIEW.format(commands="\n".join(lines))


def _function_of(command: Command) -> Callable[[list[str], StopSignals], Any]:
    """Imports what may take seconds; without the garbage collector, which takes a quarter of them to find nothing."""
    module, _, name = command.where.partition(":")
    gc.disable()
    try:
        function: Callable[[list[str], StopSignals], Any] = getattr(importlib.import_module(module), name)
    finally:
        gc.enable()
    return function
