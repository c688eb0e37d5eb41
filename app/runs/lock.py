"""One process trains in a run's folder at a time."""

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

WAIT_SECONDS = 60.0  # a process that was just killed may take a moment to go
NAME = ".lock"


class RunLock:
    """The right to write into a run's folder, held until the process ends, however it ends.

    A lock of the operating system: nothing is left behind that would have to be removed. File systems without locks
    are used without one.
    """

    def __init__(self) -> None:
        self._file: IO[str] | None = None

    def acquire(self, folder: Path) -> None:
        """Takes the lock, waiting for a process that is about to end.

        Raises:
            ValueError: If another process keeps it; names the process.
        """
        if self._file is not None:
            return
        file = (folder / NAME).open("a+")
        deadline, said = time.monotonic() + WAIT_SECONDS, False
        while not _locked(file):
            file.seek(0)
            owner = file.read().strip() or "another process"
            if time.monotonic() >= deadline:
                file.close()
                raise ValueError(f"{folder} is being trained by {owner}: wait for it, or start a run of its own.")
            if not said:
                print(
                    f"{folder} is in use by {owner}: waiting for it to end, {WAIT_SECONDS:.0f} s at most.", flush=True
                )
                said = True
            time.sleep(0.2)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Gives the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _locked(file: IO[str]) -> bool:
    """Tries once; True too where the file system has no locks. A lock of this kind is not inherited by workers."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except PermissionError:  # EACCES is what some systems say for a lock that is taken
        return False
    except OSError:
        return True
    return True
