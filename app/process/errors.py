"""Errors as a user sees them: one line on stderr and an exit code."""

import os
import pickle
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

# What wrong input raises; anything else is a mistake of the program and keeps its traceback.
RUN_TIME_ERRORS = (
    ValueError,
    OSError,
    RuntimeError,
    ArithmeticError,
    ImportError,
    MemoryError,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
)


class UsageError(Exception):
    """The command line or a configuration file asks for something that does not exist; exit code 2."""


class InterruptedRun(Exception):
    """The user or the cluster stopped the run; its checkpoint is kept.

    Args:
        message: What was kept and how to go on.
        exit_code: 128 + the signal's number.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def one_line(error: BaseException | str) -> str:
    """An error's message with its line breaks and indentation made into single spaces."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def innermost(message: str) -> str:
    """The reason inside one of jsonargparse's messages, which names every type it has tried around it."""
    text = one_line(message)
    if "Errors: - " in text:
        text = text.rpartition("Errors: - ")[2]
        text = re.split(r" - (?=Expected a|Not a valid|Multiple subclasses|no option)| Given value type:", text)[0]
    return re.sub(r"<class '([\w.]+)'>", r"\1", text)


def _short_mismatch(text: str) -> str:
    """PyTorch lists every tensor that does not fit; the first one says enough."""
    match = re.match(r"Error\(s\) in loading state_dict for (\w+): (.*)", text)
    if not match:
        return text
    reasons = re.split(r"\. (?=size mismatch)|(?<=\.) (?=Unexpected|Missing)", match[2])
    return f"the checkpoint's weights do not fit the configured {match[1]}: {reasons[0].rstrip('. ')}"


def stop(message: BaseException | str, exit_code: int, note: str = "") -> NoReturn:
    """Prints one line, with what can be done now at its end, and exits."""
    rank = process_rank()
    where = f"rank {rank}: " if rank else ""
    print(
        f"{where}error: {_short_mismatch(innermost(str(message)) or one_line(message))}{note}",
        file=sys.stderr,
        flush=True,
    )
    sys.exit(exit_code)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what wrong input raises into one line and an exit code; QUICKSTUDY_DEBUG=1 leaves the traceback."""
    try:
        yield
    except InterruptedRun as stopped:
        if process_rank() == 0:
            print(stopped, file=sys.stderr, flush=True)
        sys.exit(stopped.exit_code)
    except KeyboardInterrupt as stopped:  # carries the signal's number
        if process_rank() == 0:
            print("Stopped.", file=sys.stderr)
        sys.exit(128 + (stopped.args[0] if stopped.args else 2))
    except UsageError as error:
        if os.environ.get("QUICKSTUDY_DEBUG"):
            raise
        if process_rank() == 0:  # every rank reads the same command line
            stop(error, exit_code=2)
        sys.exit(2)
    except Exception as error:
        if os.environ.get("QUICKSTUDY_DEBUG") or not _is_input_error(error):
            raise
        if process_rank() and getattr(error, "same_on_every_rank", False):
            sys.exit(1)
        hint = " (QUICKSTUDY_DEBUG=1 shows the traceback)" if isinstance(error, RuntimeError) else ""
        stop(f"{error}{hint}", exit_code=1, note="".join(getattr(error, "__notes__", ())))


def _is_input_error(error: Exception) -> bool:
    return isinstance(error, RUN_TIME_ERRORS) or type(error).__name__ == "MisconfigurationException"


def process_rank() -> int:
    """This process's rank, from the launcher's environment variables; of one that Lightning started, not 0 at least."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # in a shell of Slurm's, its own is the shell's
    rank = next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), 0)
    return rank or (int(os.environ["NODE_RANK"]) if "RANK" not in os.environ and "NODE_RANK" in os.environ else 0)
