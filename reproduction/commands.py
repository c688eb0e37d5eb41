"""Runs commands of train.py in processes of their own, several at once, until they end or are told to stop."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from app.runs.folder import RunFolder
from reproduction.shipped import ROOT

STOPPED_BY = (-signal.SIGINT, -signal.SIGTERM)  # a process that was still starting


class StoppedCommand(Exception):
    """A command was stopped; its state is saved, and the same command goes on."""


class FailedCommand(Exception):
    """A command failed; the message is its own last line, and where the rest is."""


class Commands:
    """The processes that run now.

    Args:
        at_once: How many there may be, for each one's share of the processor.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, arguments: list[str], log: Path, title: str | None = None) -> RunFolder:
        """Runs `python train.py ARGUMENTS` to its end.

        Args:
            arguments: Those of train.py.
            log: What its output is added to.
            title: Said when it begins, with the log's name; None: nothing is said.

        Returns:
            The run that it has left results in.

        Raises:
            StoppedCommand: If it, or all, were told to stop.
            FailedCommand: If it failed.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            if self._stopped:
                raise StoppedCommand
            process = self._begin(arguments)
        if title is not None:
            print(f"begun: {title}; what it says: {os.path.relpath(log)}", flush=True)
        lines = []
        assert process.stdout is not None
        with process, log.open("a", encoding="utf-8") as file:
            for line in process.stdout:
                lines.append(line.rstrip())
                file.write(line)
                file.flush()
        with self._lock:
            self._running.discard(process)
        code = process.returncode
        if code > 128 or code in STOPPED_BY or (code != 0 and self._stopped):
            raise StoppedCommand
        found = [match[1] for line in lines if (match := re.fullmatch(r"results: (.+)/results\.json", line))]
        if code != 0 or not found:
            raise FailedCommand(f"{_last_line(lines)} (the rest: {os.path.relpath(log)})")
        return RunFolder(ROOT / found[-1])

    def stop(self) -> None:
        """Tells all to save their state and end, and lets none begin."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def _begin(self, arguments: list[str]) -> subprocess.Popen[str]:
        """Each process has its share of the cores, which several with all of them each would fight for."""
        cores = len(os.sched_getaffinity(0))
        share = {"OMP_NUM_THREADS": str(max(1, cores // self.at_once))} if self.at_once > 1 else {}
        process = subprocess.Popen(
            [sys.executable, "train.py", *arguments],
            cwd=ROOT,
            env=share | dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._running.add(process)
        return process


def _last_line(lines: list[str]) -> str:
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if line.startswith("error: ")]
    return (errors or said or ["it ended without a word"])[-1].removeprefix("error: ")
