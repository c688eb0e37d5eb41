"""Which labelled examples make group number i: a pure function of (seed, i), for learners that train on examples."""

import torch
from torch import Tensor

from datamodules.tasks.counter import random_bits, random_order

EXAMPLES_STREAM = 1 << 28  # keeps these draws apart from those of tasks, sizes, augmentation and methods
KEPT_ORDERS = 2  # a batch of groups reaches into one epoch or two


class ExampleOrder:
    """Goes through all examples of training in one random order after another, each example once in each.

    Group i of B examples holds the places i * B to (i + 1) * B - 1 of the endless row of orders, so a group may span
    the end of one order and the start of the next.

    Args:
        seed: The stream's seed.
        n_examples: N.
    """

    def __init__(self, seed: int, n_examples: int) -> None:
        self.seed, self.n_examples = seed, n_examples
        self._orders: dict[tuple[int, torch.device], Tensor] = {}

    def groups(self, group_id: Tensor, group_size: int) -> Tensor:
        """Returns the examples of some groups.

        Args:
            group_id: (T,) int64.
            group_size: B.

        Returns:
            (T, B) int64 in [0, N), on the device of `group_id`.
        """
        place = group_id.unsqueeze(1) * group_size + torch.arange(group_size, device=group_id.device)  # (T, B)
        epoch, within = place // self.n_examples, place % self.n_examples
        examples = torch.empty_like(place)
        for number in epoch.unique().tolist():
            chosen = epoch == number
            examples[chosen] = self._order(number, place.device)[within[chosen]]
        return examples

    def _order(self, epoch: int, device: torch.device) -> Tensor:
        """The permutation (N,) of an epoch, kept for the next group."""
        if (epoch, device) not in self._orders:
            while len(self._orders) >= KEPT_ORDERS:
                self._orders.pop(next(iter(self._orders)))
            bits = random_bits(self.seed, EXAMPLES_STREAM, torch.tensor([epoch], device=device), self.n_examples)
            self._orders[epoch, device] = random_order(bits)[0]
        return self._orders[epoch, device]
