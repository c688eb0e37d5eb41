"""Where data are looked for when nothing else is said, by the commands that take a folder of several data sets."""

import os
from pathlib import Path


def data_folder() -> Path | None:
    """Where QUICKSTUDY_DATA says, or `data/`, if there is one."""
    folder = Path(os.environ.get("QUICKSTUDY_DATA") or "data")
    return folder if folder.is_dir() else None
