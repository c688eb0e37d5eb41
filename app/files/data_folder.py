"""Where data are looked for when nothing else is said, by the commands that take a folder of several data sets."""

import os
from pathlib import Path

from app.process.errors import UsageError


def data_folder() -> Path | None:
    """Tells where QUICKSTUDY_DATA says, or `data/`, if there is one.

    Raises:
        UsageError: If QUICKSTUDY_DATA names no folder.
    """
    named = os.environ.get("QUICKSTUDY_DATA")
    folder = Path(named or "data")
    if named and not folder.is_dir():
        raise UsageError(f"QUICKSTUDY_DATA={named}: there is no such folder; set it to the one that holds omniglot/")
    return folder if folder.is_dir() else None
