"""torchrun that ends with the training's exit code: python deploy/torchrun.py [torchrun's options] train.py fit ...

torchrun itself ends with 1 whatever happened, so that a cluster cannot tell a wrong command (2), which no restart
mends, or a stop with everything saved (143, 138) from a failure (1); and it hands SIGUSR1 on only when asked to.
Its options can be set in the environment: PET_NNODES for --nnodes, and so on.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1")
LOST = 75  # sysexits.h: a temporary failure, try again


def main(arguments: Sequence[str]) -> int:
    """Runs torchrun.

    Args:
        arguments: torchrun's command line.

    Returns:
        The exit code of the process that failed first; 128 + the signal's number where a signal ended it or this one;
        75 where the training had begun and the first machine, at which the others meet, is gone.
    """
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", ",".join(SIGNALS))
    # With the store that torchrun shares between its restarts, a restarted process finds the addresses that the others
    # had before theirs, and fails again, often until no restart is left.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    # torchrun listens only once the machines have met; a container's first process is deaf till then.
    for name in SIGNALS:
        signal.signal(getattr(signal, name), _stop)
    try:
        run.run(run.parse_args(list(arguments)))
    except SignalException as stopped:
        return 128 + stopped.sigval
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        code = failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode  # a signal's number is negative
        print(f"torchrun: rank {rank} was the first to fail, with exit code {code}", file=sys.stderr)
        return code
    except RendezvousError as missed:
        if signal.getsignal(signal.SIGTERM) is _stop:  # else torchrun's own handler: the training had begun
            print(f"torchrun: the machines did not find each other: {missed}", file=sys.stderr)
            return 1
        print("torchrun: the machine at which the others meet is gone", file=sys.stderr)
        return LOST
    return 0


def _stop(number: int, frame: Any) -> None:
    raise SignalException(f"stopped by signal {number}", signal.Signals(number))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
