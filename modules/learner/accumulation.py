"""The outer gradient of the batches since the last outer step."""

from datamodules.episode import Episode
from modules.learner.outer_gradient import OuterGradient


class Accumulation:
    """Adds up the outer gradients of the batches of one outer step.

    Args:
        n_batches: Batches of an outer step.

    Attributes:
        episodes: The batches that were added since the last outer step.
        stepped_at: The training batches, over all epochs, that the last outer step had behind it.
    """

    def __init__(self, n_batches: int) -> None:
        self.n_batches = n_batches
        self.episodes: list[Episode] = []
        self.stepped_at = 0
        self._sum: OuterGradient | None = None

    def add(self, episode: Episode, gradient: OuterGradient) -> bool:
        """Adds a batch, and says whether it completes an outer step."""
        self.episodes.append(episode)
        part = gradient.weighted(1 / self.n_batches)
        self._sum = part if self._sum is None else self._sum.plus(part)
        return len(self.episodes) == self.n_batches

    def take(self, batches: int) -> tuple[OuterGradient, list[Episode]]:
        """Gives the mean of an outer step and its batches away, and begins the next one.

        Args:
            batches: The training batches that this step has behind it.
        """
        assert self._sum is not None
        mean, episodes = self._sum, self.episodes
        self.begin(batches)
        return mean, episodes

    def begin(self, batches: int) -> None:
        """Drops what an incomplete outer step has left, as where an earlier training was stopped in it."""
        self._sum, self.episodes, self.stepped_at = None, [], batches
