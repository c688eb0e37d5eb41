"""Tasks a chunk at a time, and smaller chunks where memory runs out."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datamodules.episode import Episode
from modules.learner.task_chunks import TaskChunks
from tests.learnable_images import make_episode

NO_MEMORY = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"

OUT_OF_MEMORY = """
import resource, torch
from modules import MAML, OuterLoop
from datamodules.episode import Episode, Task

n = 24
generator = torch.Generator().manual_seed(0)
labels = torch.arange(5).expand(n, 5).repeat(1, 2)
images = torch.rand(n, 10, 1, 28, 28, generator=generator)
episode = Episode(Task.of(images, labels, 5), images.flip(1), labels.flip(1), torch.arange(n))

def gradient(chunk):
    torch.manual_seed(0)
    learner = MAML(5, inner_steps=2, outer=OuterLoop(task_chunk=chunk))
    result = learner.batch_gradient(episode)
    return torch.cat([g.flatten() for g in result.gradients.values()]), learner.task_chunk

expected, _ = gradient(4)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 250 * 2**20, used + 250 * 2**20))
found, size = gradient(24)
print(size, float((found - expected).norm() / expected.norm()))
"""


class Failing:
    """Gives the tasks' numbers, and has no memory for more than `limit` tasks."""

    def __init__(self, limit: int, error: type[Exception] = RuntimeError, message: str = NO_MEMORY) -> None:
        self.limit, self.error, self.message = limit, error, message
        self.tried: list[int] = []

    def __call__(self, tasks: Episode) -> list[int]:
        self.tried.append(len(tasks.task_id))
        if len(tasks.task_id) > self.limit:
            raise self.error(self.message)
        return tasks.task_id.tolist()


@pytest.mark.parametrize(("size", "expected"), [(3, [3, 3, 1]), (7, [7]), (100, [7]), (None, [7])])
def test_every_task_is_computed_once_in_its_turn(size: int | None, expected: list[int]) -> None:
    compute = Failing(limit=100)
    parts = list(TaskChunks(size)(compute, make_episode(7)))
    assert compute.tried == expected
    assert [task for tasks, _ in parts for task in tasks] == list(range(7))
    assert [share for _, share in parts] == [n / 7 for n in expected]


@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError])
def test_no_memory_halves_the_chunk_and_goes_on_where_it_was(error: type[Exception]) -> None:
    compute = Failing(limit=3, error=error)
    said: list[str] = []
    chunks = TaskChunks(8, said.append)
    parts = list(chunks(compute, make_episode(8)))
    assert compute.tried == [8, 4, 2, 2, 2, 2]
    assert [task for tasks, _ in parts for task in tasks] == list(range(8))
    assert said[0] == "Out of memory with 8 tasks at once: going on with 4 (outer.task_chunk)."
    compute.tried.clear()
    list(chunks(compute, make_episode(4)))
    assert compute.tried == [2, 2]  # once is enough to learn it


def test_a_single_task_too_many_ends_it_with_what_to_do() -> None:
    with pytest.raises(MemoryError, match="does not hold one task: use fewer inner steps"):
        list(TaskChunks(2, lambda line: None)(Failing(limit=0), make_episode(2)))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    compute = Failing(limit=0, message="shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(TaskChunks(4)(compute, make_episode(4)))
    assert compute.tried == [4]


def test_real_memory_that_runs_out_gives_the_same_gradient_from_smaller_chunks() -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], cwd=root, capture_output=True, text=True, check=True)
    *said, result = done.stdout.splitlines()
    size, difference = result.split()
    assert said[0].startswith("Out of memory with 24 tasks at once: going on with 12")
    assert int(size) < 24
    assert float(difference) < 1e-6
