"""Mini-batches against the order they are cut from."""

import torch

from modules.functional.mini_batches import take
from modules.methods.reptile import mini_batch_indices


def test_mini_batches_go_through_one_order_after_another() -> None:
    orders = torch.tensor([[[0, 2, 1], [1, 0, 2]], [[2, 1, 0], [0, 1, 2]]])  # (T = 2, R = 2, S = 3)
    assert mini_batch_indices(orders, batch_size=2, steps=2).tolist() == [[[0, 2], [1, 1]], [[2, 1], [0, 0]]]


def test_take_picks_from_each_tasks_own_examples() -> None:
    examples = torch.arange(12).view(2, 3, 2)
    assert take(examples, torch.tensor([[2, 0], [1, 1]])).tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]
