"""Steps in a process of their own, where this one's allocator, caches and compilers would be in the way."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.pool import Pool
from types import TracebackType
from typing import Any

import torch

from app.process.allocator import keep_freed_memory
from benchmarks.cases import Case, Gradients, Step
from benchmarks.timing import synchronise

Make = Callable[[Case, int, torch.device], Step]  # (case, T, device) -> a step

_steps: list[Step] = []  # of the process that computes


def fresh_pool(device: torch.device, module: str) -> Pool:
    """A pool of one process that has imported a module and computed nothing."""
    # From a server that has done so it takes milliseconds, and no thread of this process is lost in it. What has asked
    # for a GPU while importing cannot be forked.
    context = multiprocessing.get_context("spawn" if device.type == "cuda" else "forkserver")
    context.set_forkserver_preload([module])
    return context.Pool(1)


class FreshProcess:
    """A process that has computed nothing, and ends with the `with` block.

    Args:
        keeps_memory: Whether its allocator keeps what is freed, as `train.py` sets it.
        device: Where it will compute.
    """

    def __init__(self, keeps_memory: bool, device: torch.device) -> None:
        self._pool = fresh_pool(device, "benchmarks.variant_steps")
        self.keeps_memory = keeps_memory

    def step(
        self,
        make: Callable[[Case, int, torch.device], Step],
        case: Case,
        n_tasks: int,
        device: torch.device,
        limit: float,
    ) -> Step:
        """A step that is computed there.

        Args:
            make: What makes it there; can be pickled.
            case: For `make`.
            n_tasks: For `make`.
            device: For `make`.
            limit: Seconds that a call may take; a longer one raises TimeoutError.

        Returns:
            The step; only its first call brings the gradient along, which takes time.
        """
        self._ask(limit, _make, make, case, n_tasks, device, self.keeps_memory)
        first = True

        def compute() -> Gradients:
            nonlocal first
            wanted, first = first, False
            gradients = self._ask(limit, _call, device, wanted)
            return {name: torch.from_numpy(value).to(device) for name, value in gradients.items()}

        return Step(compute)

    def _ask(self, limit: float, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self._pool.apply_async(function, arguments).get(limit)
        except multiprocessing.TimeoutError:
            raise TimeoutError(f"not finished in {limit:.0f} s") from None

    def __enter__(self) -> "FreshProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.terminate()
        self._pool.join()


def _make(make: Make, case: Case, n_tasks: int, device: torch.device, keeps_memory: bool) -> None:
    if keeps_memory:
        keep_freed_memory()
    _steps[:] = [make(case, n_tasks, device)]


def _call(device: torch.device, wanted: bool) -> dict[str, Any]:
    gradients = _steps[0]()
    synchronise(device)
    return {name: value.cpu().numpy() for name, value in gradients.items()} if wanted else {}
