"""All ranks learn of what has come to one of them, at the same step, asking each other about once a second."""

import time

import torch
from pytorch_lightning import Trainer

from modules.learner.ranks import reduced

ASKED_EVERY = 1.0  # seconds, about: asking waits for the other ranks
MOST_BATCHES = 100  # between two questions


class RankAgreement:
    """Counts training batches, of which every rank has as many, and asks the other ranks after the same ones."""

    def __init__(self) -> None:
        self._batches = 0
        self._asked = (0, 0.0)  # batches and seconds at the last question
        self._next = 1

    def start(self) -> None:
        """Begins to measure how long a batch takes."""
        self._asked = (self._batches, time.monotonic())

    def after_batch(self, trainer: Trainer, mine: bool) -> bool:
        """Tells whether it is so on any rank, as far as it is time to ask; of a single process, at once."""
        self._batches += 1
        return self._batches >= self._next and self.ask(trainer, mine) if trainer.world_size > 1 else mine

    def ask(self, trainer: Trainer, mine: bool) -> bool:
        """Tells whether it is so on any rank."""
        if trainer.world_size == 1:
            return mine
        batches, since = self._asked
        seconds = (time.monotonic() - since) / max(1, self._batches - batches)
        asked = torch.tensor([float(mine), seconds], device=trainer.strategy.root_device)
        any_rank, slowest = reduced(asked, trainer.strategy, "max").tolist()
        self._asked = (self._batches, time.monotonic())
        self._next = self._batches + max(1, min(MOST_BATCHES, int(ASKED_EVERY / max(slowest, 1e-6))))
        return any_rank > 0
