"""The signals that end a run: Ctrl-C, and the SIGTERM or SIGUSR1 by which a cluster takes a machine back."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopSignals:
    """Turns the first signal into KeyboardInterrupt, while training into a number to look at; a second Ctrl-C always.

    As a context manager it puts the handlers back as they were: Lightning leaves its own, or none, behind.

    Attributes:
        number: The last signal that came.
        postponed: Whether the first signal waits for the end of the training step.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.postponed = False
        self._before: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, by which a scheduler knows that the run is to be started again."""
        return 128 + (self.number or signal.SIGTERM)  # of a rank that another rank told to stop: as if by the cluster

    def install(self) -> None:
        """Takes the signals; again where Lightning has put its handlers in place of these."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.signal(number, self._receive)
                self._before.setdefault(number, before)

    def __enter__(self) -> "StopSignals":
        self.install()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        first, self.number = self.number is None, number
        # Only a person means "at once" by a second one: a cluster may send several, and kills what takes too long.
        if (first and not self.postponed) or (not first and number == signal.SIGINT):
            raise KeyboardInterrupt(number)
