"""Gloo processes that stay up and run one function after another, so that their start is paid once.

They are forks of a server that has imported torch and Lightning: all groups of a test process pay the imports once.
"""

import os
import pickle
import socket
import traceback
from collections.abc import Callable
from contextlib import chdir
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
PRELOADED = ["tests.training_runs", "tests.learnable_images"]


class RankGroup:
    """Runs a function of an importable module as every rank of one process group.

    Args:
        size: Processes.
    """

    def __init__(self, size: int = 2) -> None:
        self.size = size
        self.pipes: list[Connection] = []
        self.processes: list[Any] = []

    def __call__(self, function: Callable[..., Any], *arguments: Any, timeout_s: float = 120) -> list[Any]:
        """What the function returned on each rank; raises what one of them raised."""
        if not self.processes:
            self._start()
        for pipe in self.pipes:
            pipe.send_bytes(pickle.dumps((function, arguments)))
        results: dict[int, Any] = {}
        while len(results) < len(self.pipes):
            waiting = [pipe for rank, pipe in enumerate(self.pipes) if rank not in results]
            ready = wait(waiting, timeout_s)
            answers = [pickle.loads(pipe.recv_bytes()) for pipe in waiting if pipe in ready]
            errors = [error for _, error, _ in answers if error]
            if errors or not ready:
                self.stop()  # one rank may wait for the other
                raise RuntimeError(
                    errors[0] if errors else f"{len(waiting)} of {self.size} ranks were silent for {timeout_s} s"
                )
            results |= {rank: result for rank, _, result in answers}
        return [results[rank] for rank in range(self.size)]

    def stop(self) -> None:
        """Ends the processes; the next call starts new ones."""
        for process in self.processes:
            process.terminate()
            process.join()
        self.pipes, self.processes = [], []

    def _start(self) -> None:
        context = ready_context()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for rank in range(self.size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, self.size, port, theirs), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)


def ready_context() -> ForkServerContext:
    """Makes processes that have imported torch; forks of this process, whose threads have run, might hang."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with chdir(ROOT):  # where the server finds what it imports
        forkserver.ensure_running()
    return context


def _serve(rank: int, size: int, port: int, pipe: Connection) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "TEST_RANKS": str(size),
    }  # the first two are what Lightning's environment reads
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    while True:
        try:
            function, arguments = pickle.loads(pipe.recv_bytes())
        except EOFError:  # the tests are over
            return
        try:
            answer: tuple[int, str | None, Any] = (rank, None, function(*arguments))
        except Exception:
            answer = (rank, f"rank {rank}:\n{traceback.format_exc()}", None)
        pipe.send_bytes(pickle.dumps(answer))
