"""What a data module emits: what tasks show a learner, and what they ask of it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


class Task(NamedTuple):
    """What T tasks show a learner before they ask.

    What belongs to a single example, such as its length, lies in `x` itself, because queries are given as `query_x`
    alone.
    """

    x: Tensor  # (T, S, *input_shape); S = 0 where nothing is shown, as in training on labelled examples
    y: Tensor  # (T, S), int64 labels in [0, n_way) or float targets
    classes: Tensor  # (T, n_way), int64: the data's own numbers of the task's classes; 0 where there are none
    noise: Tensor  # (T, ...): the numbers that a method's `draw_noise` drew; (T, 0) where it draws none
    extra: dict[str, Tensor]  # (T, ...) each: what else belongs to a task; the same names in every batch

    @property
    def n_way(self) -> int:
        """The number of classes; of outputs that are used."""
        return self.classes.shape[1]

    @classmethod
    def of(cls, x: Tensor, y: Tensor, classes: Tensor | int) -> "Task":
        """Makes T tasks of which nothing is known but their support sets.

        Args:
            x: (T, S, *input_shape).
            y: (T, S), int64 labels in [0, n_way) or float targets.
            classes: (T, n_way) int64, the data's own numbers of the classes; or n_way alone, which is 1 in regression.
        """
        if isinstance(classes, int):
            classes = torch.arange(classes, device=x.device).repeat(len(x), 1)  # (T, n_way)
        return cls(x, y, classes, no_noise(len(x), x.device), {})


class Episode(NamedTuple):
    """T few-shot tasks. Labels are relabelled to [0, n_way) inside each task; in regression they are float targets.

    A NamedTuple collates, pins, moves to a device and gives Lightning its batch size (T) with no code of ours.
    """

    task: Task
    query_x: Tensor  # (T, Q, *input_shape)
    query_y: Tensor  # (T, Q), int64 or float32
    task_id: Tensor  # (T,), int64: the number that draws this task again

    def tasks(self, start: int, stop: int) -> "Episode":
        """Takes the tasks from position `start` up to `stop`."""
        return self.map(lambda field: field[start:stop])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Episode":
        """Changes every tensor."""
        changed: Episode = tree_map(change, self)
        return changed

    def map_inputs(self, change: Callable[[Tensor], Tensor]) -> "Episode":
        """Changes the inputs, `task.x` and `query_x`, and nothing else."""
        return self._replace(task=self.task._replace(x=change(self.task.x)), query_x=change(self.query_x))

    def with_noise(self, noise: Tensor) -> "Episode":
        """Gives the tasks the random numbers (T, ...) that adapting them takes."""
        return self._replace(task=self.task._replace(noise=noise))

    def tensors(self) -> list[Tensor]:
        """Lists every tensor, always in the same order."""
        leaves: list[Tensor] = tree_leaves(self)
        return leaves


def no_noise(n_tasks: int, device: torch.device | None = None) -> Tensor:
    """Returns the noise of tasks whose method draws none, (T, 0)."""
    return torch.empty(n_tasks, 0, device=device)
