"""Runs commands of train.py in processes of their own, several at once, until they end or are told to stop."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

from app.runs.folder import RunFolder
from reproduction.training import ROOT


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
        self._at_once = at_once
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.stopped = False

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
        with log.open("ab") as output:
            begin = output.tell()
            with self._lock:
                if self.stopped:
                    raise StoppedCommand
                process = subprocess.Popen(
                    [sys.executable, "train.py", *arguments],
                    cwd=ROOT,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
                self._running.add(process)
            if title is not None:
                print(f"begun: {title}; what it says: {os.path.relpath(log)}", flush=True)
            code = process.wait()
            with self._lock:
                self._running.discard(process)
        text = log.read_bytes()[begin:].decode(errors="replace")
        if code > 128 or (code != 0 and self.stopped):
            raise StoppedCommand
        found = re.findall(r"^results: (.+)/results\.json$", text, re.MULTILINE)
        if code != 0 or not found:
            raise FailedCommand(f"{_last_line(text)} (the rest: {os.path.relpath(log)})")
        return RunFolder(ROOT / found[-1])

    def stop(self) -> None:
        """Tells all to save their state and end, and lets none begin."""
        with self._lock:
            self.stopped = True
            for process in self._running:
                process.terminate()

    def _environment(self) -> dict[str, str]:
        """Each process has its share of the cores, which several with all of them each would fight for."""
        cores = len(os.sched_getaffinity(0))
        share = {"OMP_NUM_THREADS": str(max(1, cores // self._at_once))} if self._at_once > 1 else {}
        return share | dict(os.environ)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it ended without a word"])[-1].removeprefix("error: ")
