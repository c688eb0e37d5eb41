"""Which images task number i is made of: a pure, vectorised function of (seed, split, i).

The drawing is stable in its prefixes. Tasks of equal seed, split, number and n_way hold the same classes. Their j-th
image of each class is the same, however many are drawn: k_shot = 1 has the first shot of k_shot = 5, and n_query = 5
has the first five queries of n_query = 15 at the same k_shot. So learners that are evaluated with other numbers of
queries are still compared on the same support sets. All this holds for one pool of classes: where small classes are
left out, another size of the tasks may leave out others.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.tasks.counter import random_bits, random_integers

SPLITS = ("train", "val", "test")
# The number of the drawing: raise it where a task's number draws another task than before. Checkpoints and results
# carry it. 1: a class's numbers lay side by side in the stream of random numbers, so that a task changed with n_query.
DRAWS = 2


@dataclass(frozen=True)
class EpisodeShape:
    """The size of a task: n_way classes, k_shot support and n_query query examples of each."""

    n_way: int
    k_shot: int
    n_query: int

    def __post_init__(self) -> None:
        for name in ("n_way", "k_shot", "n_query"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")

    @property
    def draws(self) -> int:
        """How many random numbers a task takes: its group, its classes, a half for each class, and then its examples.

        Draw j of class c is number j * n_way + c of the examples' numbers: more draws change none of those before.
        """
        return 1 + self.n_way * (2 + self.k_shot + self.n_query)


@dataclass(frozen=True)
class ClassPool:
    """The classes that a split draws its tasks from, and where their images stand in the bank.

    Where `group_start` and `group_size` tell groups apart (Omniglot's alphabets), all classes of a task come from one
    group, each group equally often; otherwise there is one group. Where `first_half` is given, support and query come
    from different halves.
    """

    class_id: Tensor  # (C,) int64: the bank's classes, those of one group side by side
    class_start: Tensor  # (C,) int64: first image of each class in the bank
    class_size: Tensor  # (C,) int64: images of each class
    group_start: Tensor  # (G,) int64: position in class_id
    group_size: Tensor  # (G,) int64
    first_half: Tensor | None = None  # (C,) int64: images of each class in its first half

    def to(self, device: torch.device) -> "ClassPool":
        """The same pool on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return ClassPool(**moved)


class Drawn(NamedTuple):
    """Image indices of T tasks."""

    class_id: Tensor  # (T, n_way)
    support: Tensor  # (T, n_way, k_shot), indices into the bank's images
    query: Tensor  # (T, n_way, n_query)


@torch.inference_mode()  # spares autograd's bookkeeping in some 70 small operations, a fifth of their time
def draw_tasks(seed: int, split: int, task_id: Tensor, pool: ClassPool, shape: EpisodeShape) -> Drawn:
    """Draws T tasks: n_way distinct classes, then k_shot + n_query distinct images of each, shot by shot.

    Args:
        seed: The stream's seed.
        split: A number for the split, so that train and test tasks of one number are unrelated.
        task_id: (T,) int64 task numbers, all >= 0.
        pool: The split's classes; every group has n_way classes or more and every class (half) images enough.
        shape: The size of a task.

    Returns:
        The drawn classes and images, as inference tensors: autograd takes a copy only. A task does not depend on which
        others are drawn with it. The classes depend on n_way alone, an image on n_way and on the draws of its class
        before it; of a pool with halves a query also on k_shot, since support and query are drawn apart.
    """
    n_way, n_support = shape.n_way, shape.k_shot
    bits = random_bits(seed, split, task_id, shape.draws)  # (T, draws)
    group_bits, class_bits, half_bits = bits[:, :1], bits[:, 1 : 1 + n_way], bits[:, 1 + n_way : 1 + 2 * n_way]
    by_draw = bits[:, 1 + 2 * n_way :].view(len(bits), -1, n_way)  # (T, k_shot + n_query, n_way)
    image_bits = by_draw.transpose(1, 2).contiguous()  # (T, n_way, k_shot + n_query)
    if len(pool.group_start) == 1:
        position = distinct_integers(class_bits, pool.group_size)  # (T, n_way)
    else:
        group = random_integers(group_bits, len(pool.group_start))  # (T, 1)
        within = distinct_integers(class_bits, pool.group_size.take(group).squeeze(1))  # (T, n_way)
        position = pool.group_start.take(group) + within  # (T, n_way)
    start, size = pool.class_start.take(position), pool.class_size.take(position)  # (T, n_way) each
    if pool.first_half is None:
        image = start.unsqueeze(-1) + distinct_integers(image_bits, size)  # (T, n_way, k_shot + n_query)
        support, query = image[..., :n_support], image[..., n_support:]
    else:
        first = pool.first_half.take(position)  # (T, n_way)
        swap = half_bits >= 1 << 31  # (T, n_way)
        support_start, support_size = torch.where(swap, start + first, start), torch.where(swap, size - first, first)
        query_start, query_size = torch.where(swap, start, start + first), torch.where(swap, first, size - first)
        support = support_start.unsqueeze(-1) + distinct_integers(image_bits[..., :n_support], support_size)
        query = query_start.unsqueeze(-1) + distinct_integers(image_bits[..., n_support:], query_size)
    return Drawn(pool.class_id.take(position), support, query)


def distinct_integers(bits: Tensor, below: Tensor) -> Tensor:
    """Draws k distinct integers in [0, below) for each row, every ordered choice equally likely.

    The j-th draw is a rank among the below - j integers not yet chosen: a Lehmer code, decoded from its end. Each draw
    takes one integer away from those after it, which makes room for it by counting on from there. So the cost grows
    with k and not with `below`, and the first draws do not depend on how many follow.

    Args:
        bits: (..., k) int64 in [0, 2**32).
        below: (...) or what broadcasts to it, int64, at least k.

    Returns:
        (..., k) int64, distinct along the last axis.
    """
    n_draws = bits.shape[-1]
    remaining = below.unsqueeze(-1) - torch.arange(n_draws, device=bits.device)  # (..., k)
    drawn = random_integers(bits, remaining)  # (..., k)
    for j in range(n_draws - 2, -1, -1):
        later = drawn[..., j + 1 :]  # (..., k - 1 - j)
        later += later >= drawn[..., j : j + 1]
    return drawn
