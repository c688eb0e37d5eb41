"""Folders that one of the test processes fills and all of them read, so that what takes seconds is made once."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Returns a folder of a session of tests, filled by the first process that asks for it while the others wait.

    Args:
        factory: Knows the folder of this session.
        name: Of the folder; the same name stands for the same content.
        make: Fills the folder that it is given.

    Returns:
        The folder. Tests that write into it take a copy.
    """
    root = factory.getbasetemp()
    root = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "made_once"
    root.mkdir(exist_ok=True)
    folder, complete = root / name, root / f"{name}.complete"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            complete.touch()
    return folder
