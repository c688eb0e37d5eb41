"""Keeps secrets off the command line: what is typed there stands in config.yaml, results.json, checkpoints and W&B."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from app.process.errors import UsageError

WORDS = "KEY|APIKEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|PASSPHRASE|CREDENTIALS?|AUTH"
SECRET_NAME = re.compile(rf"(?:^|_)(?:{WORDS})S?(?:_|$)", re.IGNORECASE)  # one of a name's words: not in KEYMAP
SHORTEST = 8  # characters; a shorter value is hardly a secret, and is part of too much else


def secret_values(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment's secrets: by their variable's name, and not the path of a file that is there.

    Args:
        environment: Variables and their values.
    """
    named = {name: value for name, value in environment.items() if SECRET_NAME.search(name) and len(value) >= SHORTEST}
    return {name: value for name, value in named.items() if not os.path.exists(value)}


def refuse_secrets(arguments: Iterable[str], files: Iterable[str]) -> None:
    """Refuses a command line, or configuration files, that hold a secret of the environment; never quotes it.

    Args:
        arguments: The command line.
        files: The configuration files that it names.

    Raises:
        UsageError: If the value of such a variable is part of an argument or a file; names the variable.
    """
    secrets = secret_values()
    places = [("the command line", "\n".join(arguments))] if secrets else []
    for file in files if secrets else ():
        if Path(file).is_file():
            places.append((file, Path(file).read_text("utf-8", errors="replace")))
    for where, text in places:
        for name, value in secrets.items():
            if value in text:
                raise UsageError(f"{where} holds the value of {name}, which the run's files would show: take it out")
