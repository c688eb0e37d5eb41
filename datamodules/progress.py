"""A progress bar on a terminal, one plain line elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows how far a long preparation is.

    Args:
        description: what is being done, e.g. "Omniglot: reading drawings".
        total: the number of steps (images, bytes ...).

    Yields:
        A function to call with the number of steps just done.
    """
    if not sys.stderr.isatty():
        print(f"{description} ({total:,}) ...", file=sys.stderr, flush=True)
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)


def say(line: str) -> None:
    """A line for the user beside the results, on stderr."""
    print(line, file=sys.stderr, flush=True)
