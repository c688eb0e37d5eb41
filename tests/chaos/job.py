"""A training job in processes that can be killed: forked, so that a start costs a tenth of a second."""

import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import torch

from app.cli import main


class Job:
    """One start of `train.py` in one or several processes, as torchrun would start them.

    Args:
        arguments: The command line without the program's name.
        folder: Where the runs and the log go.
        n_processes: Ranks.
    """

    def __init__(self, arguments: list[str], folder: Path, n_processes: int) -> None:
        self.log = folder / "log.txt"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.pids = [self._fork(arguments, folder, rank, n_processes, port) for rank in range(n_processes)]
        self.codes: dict[int, int] = {}

    def _fork(self, arguments: list[str], folder: Path, rank: int, n_processes: int, port: int) -> int:
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            os.setpgid(0, 0)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if n_processes > 1:
                numbers = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": n_processes}
                numbers |= {"LOCAL_WORLD_SIZE": n_processes, "MASTER_PORT": port}
                os.environ |= {name: str(number) for name, number in numbers.items()}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "chaos"}
            torch.set_num_threads(1)
            main([*arguments, f"--trainer.default_root_dir={folder / 'runs'}"])
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def running(self) -> bool:
        """Whether any process is left."""
        for pid in self.pids:
            if pid not in self.codes:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    self.codes[pid] = os.waitstatus_to_exitcode(status)
        return len(self.codes) < len(self.pids)

    def kill(self, rank: int | None, number: int = signal.SIGKILL) -> None:
        """Sends a signal to one rank, or to all, with their children; then, as a launcher does, kills the others."""
        for chosen in range(len(self.pids)) if rank is None else [rank]:
            self._send(self.pids[chosen], number)
        if number == signal.SIGKILL:
            for pid in self.pids:
                self._send(pid, number)
            while self.running():
                time.sleep(0.001)

    def _send(self, pid: int, number: int) -> None:
        if self.running() and pid not in self.codes:
            try:
                os.killpg(pid, number)
            except ProcessLookupError:  # it has no group of its own yet
                os.kill(pid, number)

    def wait(self, seconds: float) -> list[int]:
        """The exit codes by rank.

        Raises:
            TimeoutError: If it takes longer; all processes are killed then.
        """
        deadline = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > deadline:
                self.kill(None)
                raise TimeoutError(f"the job took more than {seconds:.0f} s: {self.log}")
            time.sleep(0.005)
        return [self.codes[pid] for pid in self.pids]
