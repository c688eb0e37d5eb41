"""A command on learner, data and Trainer that is a function of this application, where Lightning has no such method."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytorch_lightning.cli import LightningArgumentParser


@dataclass(frozen=True)
class OwnCommand:
    """What runs in the place of a Trainer's method, once learner, data, Trainer and folder are there.

    Args:
        run: Called with the application, and by name with its further parameters, which are the command's own options.
            Its docstring is their help.
        check: Called with the data's class path and the checkpoint before anything is built; raises what is refused.
    """

    run: Callable[..., None]
    check: Callable[[str, dict[str, Any]], None]

    @property
    def description(self) -> str:
        """One line of help."""
        return (inspect.getdoc(self.run) or "").partition("\n")[0]

    def add_options(self, parser: LightningArgumentParser) -> list[str]:
        """Adds the command's own options to its parser, and returns their names."""
        first_parameter: set[str | int] = {1}  # the application
        return list(parser.add_function_arguments(self.run, skip=first_parameter))
