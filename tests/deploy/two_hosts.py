"""Two hosts on one machine: network namespaces with an address each, and a link between them that can be cut."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NAMES = ("qs-one", "qs-two")
ADDRESSES = ("10.231.77.1", "10.231.77.2")
PORT = 29411
REPOSITORY = Path(__file__).parents[2]


def possible() -> bool:
    """Whether this user may make network namespaces."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    made = subprocess.run(["ip", "netns", "add", "qs-try"], capture_output=True).returncode == 0
    if made:
        _ip("netns", "del", "qs-try")
    return made


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class TwoHosts:
    """Both hosts, each with a torchrun that is started again whenever it ends in failure, as a cluster would.

    Args:
        folder: For the logs.
        arguments: What `train.py` is given.
        options: More of torchrun's options.
    """

    def __init__(self, folder: Path, arguments: list[str], *options: str) -> None:
        self.logs = [folder / f"{name}.txt" for name in NAMES]
        for name in NAMES:
            _ip("netns", "add", name)
        _ip("link", "add", "one", "netns", NAMES[0], "type", "veth", "peer", "name", "two", "netns", NAMES[1])
        for name, link, address in zip(NAMES, ("one", "two"), ADDRESSES, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            for device in (link, "lo"):
                _ip("-n", name, "link", "set", device, "up")
        torchrun = ["deploy/torchrun.py", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=3", "--rdzv-backend=c10d"]
        torchrun += [f"--rdzv-endpoint={ADDRESSES[0]}:{PORT}", *options, "train.py", *arguments]
        self.processes = [self._start(host, torchrun) for host in range(2)]

    def _start(self, host: int, torchrun: list[str]) -> subprocess.Popen[bytes]:
        # By its name, which is the same here, a host would not know whether it is the one at which they meet.
        own = [f"--local-addr={ADDRESSES[host]}", f"--rdzv-conf=is_host={host == 0}"]
        command = shlex.join([sys.executable, torchrun[0], *own, *torchrun[1:]])
        again = f"until {command}; do echo started again; sleep 1; done"
        environment = os.environ | {
            "GLOO_SOCKET_IFNAME": ("one", "two")[host],
            "OMP_NUM_THREADS": "1",
            "WANDB_MODE": "disabled",
        }
        log = self.logs[host].open("ab")
        return subprocess.Popen(
            ["ip", "netns", "exec", NAMES[host], "bash", "-c", again],
            cwd=REPOSITORY,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def link(self, state: str) -> None:
        """Sets the link "down" or "up"."""
        _ip("-n", NAMES[1], "link", "set", "two", state)

    def wait_for(self, happened: Callable[[], bool], seconds: float) -> float:
        """How long it took.

        Raises:
            TimeoutError: If it takes longer; quotes the logs.
        """
        start = time.monotonic()
        while not happened():
            if time.monotonic() > start + seconds:
                raise TimeoutError("\n".join(log.read_text()[-3000:] for log in self.logs))
            time.sleep(0.05)
        return time.monotonic() - start

    def said(self, host: int = 0) -> str:
        """What a host printed."""
        return self.logs[host].read_text()

    def ended(self) -> bool:
        """Whether both hosts have succeeded."""
        return all(process.poll() is not None for process in self.processes)

    def remove(self) -> None:
        """Ends all and takes the hosts away."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for name in NAMES:
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
            subprocess.run(["kill", "-9", *pids], capture_output=True) if pids else None
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
