"""How many tasks are computed at once: bounds the memory and changes no result."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from datamodules.episode import Episode
from modules.functional.tasks.networks import Strategy
from modules.learner.inference_mode import ordinary
from modules.learner.method import Method
from modules.learner.passes import Passes

Result = TypeVar("Result")


class TaskChunks:
    """Goes over the tasks of an episode a chunk at a time, in smaller chunks where memory runs out.

    Args:
        size: Tasks at once; None: all.
        say: Takes a line for the user.

    Attributes:
        size: Tasks at once by now.
    """

    def __init__(self, size: int | None = None, say: Callable[[str], None] = print) -> None:
        self.size, self.say = size, say

    def __call__(self, compute: Callable[[Episode], Result], episode: Episode) -> Iterator[tuple[Result, float]]:
        """Computes something of every chunk.

        Args:
            compute: From the Episode of a chunk; must leave nothing behind when it fails.
            episode: T tasks.

        Yields:
            What `compute` gave, and the chunk's share of the tasks; the shares sum to 1.

        Raises:
            MemoryError: If the memory does not hold a single task.
        """
        n_tasks, start = len(episode.task_id), 0
        while start < n_tasks:
            tasks = episode.tasks(start, start + (self.size or n_tasks))
            n = len(tasks.task_id)
            try:
                result = compute(tasks)
            except RuntimeError as error:
                if not _ran_out_of_memory(error) or _records_a_graph():
                    raise
                message = str(error).partition("\n")[0]
            else:
                yield result, n / n_tasks
                start += n
                continue
            self._halve(n, message)  # out here the error, and with it every tensor of the failed chunk, is gone

    def _halve(self, n_tasks: int, message: str) -> None:
        if n_tasks == 1:
            raise MemoryError(
                "the memory does not hold one task: use fewer inner steps, fewer queries, a smaller backbone or "
                f"first-order gradients ({message})"
            )
        self.size = -(-n_tasks // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.say(f"Out of memory with {n_tasks} tasks at once: going on with {self.size} (outer.task_chunk).")


def passes_of_one_task(method: Method, episode: Episode) -> Passes:
    """Returns what a method's `trial` of one task passes through its networks; nothing where memory runs out.

    Args:
        method: The method, in training or in evaluation.
        episode: One task with its noise.
    """
    try:
        return method.passes_of(lambda: method.trial(ordinary(method.variables(1)), episode))
    except RuntimeError as error:
        if not _ran_out_of_memory(error):
            raise
        return Passes()


def choose_strategy(passes: Passes, n_tasks: int) -> Strategy:
    """Returns the fastest way of computing so many tasks at once.

    One set of weights alone is plainest one by one; several go through the hand-written forms where the networks'
    layers have them.

    Args:
        passes: Those of one task.
        n_tasks: Tasks at once.
    """
    if n_tasks * passes.sets_of_weights == 1:
        return "loop"
    return "batched" if passes.batch_tasks() else "vmap"


def _records_a_graph() -> bool:
    """Tells whether the GPU is recording, so that nothing can be taken back."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _ran_out_of_memory(error: RuntimeError) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    signs = ("can't allocate memory", "not enough memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return any(sign in str(error) for sign in signs)
