"""Which contestants can be timed on a case within the time and the memory that there is."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from benchmarks import memory
from benchmarks.cases import Case, Step
from benchmarks.contestants import AUTO, REFERENCE, Contestant
from benchmarks.gradient_check import Checks
from benchmarks.timing import MIN_ROUNDS, once

ESSENTIAL = (REFERENCE, AUTO)  # timed also where a cell's share is short, up to a longest call
LONGEST_CALL = 20.0  # seconds
CALLS_IN_BUDGET = 40  # as many such calls fit a section, where its budget is short
CELLS_IN_BUDGET = 100  # rounds get a hundredth of the section's time: three of a small case's would be noise


class Race:
    """What is learned about contestants from one cell to the next.

    Args:
        entered: The contestants that are installed.
        device: Where they run.
        seconds: The section's budget.

    Attributes:
        longest_call: Seconds; a step that takes longer is left to a larger budget.
        least: Seconds that a cell's rounds get.
        checks: The gradients' relative differences to the reference.
        seconds_per_task: (case, contestant) -> as last measured.
        bytes_per_task: (case, contestant) -> on how many tasks, and what it took for each.
    """

    def __init__(self, entered: Sequence[Contestant], device: torch.device, seconds: float) -> None:
        self.entered, self.device, self.checks = entered, device, Checks(entered, device)
        self.longest_call = min(LONGEST_CALL, seconds / CALLS_IN_BUDGET)
        self.least = seconds / CELLS_IN_BUDGET
        self.seconds_per_task: dict[tuple[Case, str], float] = {}
        self.bytes_per_task: dict[tuple[Case, str], tuple[int, float]] = {}

    def expected(self, case: Case, name: str) -> float | None:
        """Seconds that a task takes: as measured, else the reference's, else by another case; None at the beginning."""
        for known in (name, REFERENCE):
            if (case, known) in self.seconds_per_task:
                return self.seconds_per_task[case, known]
        speeds = [seconds / other.gigaflop for (other, _), seconds in self.seconds_per_task.items()]
        return min(speeds) * case.gigaflop if case.network != "conv4" and speeds else None

    def too_slow(self, cell: "Cell", name: str, call: float) -> bool:
        """Tells whether rounds of a contestant whose call takes so many seconds have no place in the cell's share."""
        if name in ESSENTIAL and call <= self.longest_call:
            return False
        return call * MIN_ROUNDS > max(self.least, cell.seconds - cell.planned)

    def saw_memory(self, case: Case, name: str, n_tasks: int, peak: int) -> None:
        """Notes what T tasks took: the largest T says most about a task, the fixed part weighing least."""
        known = self.bytes_per_task.get((case, name), (0, 0.0))
        self.bytes_per_task[case, name] = max(known, (n_tasks, peak / n_tasks))

    def fitting(self, case: Case, name: str, n_tasks: int) -> int | None:
        """Tells how many tasks a contestant may compute at once; None: all, or as many as it likes."""
        others = [taken for (other, _), taken in self.bytes_per_task.items() if other == case]
        _, bytes_per_task = self.bytes_per_task.get((case, name)) or max(others, default=(0, 0.0))
        return memory.fitting(bytes_per_task, n_tasks, self.device)


@dataclass
class Cell:
    """One case with one number of tasks: the steps that will be timed, and why the others will not.

    Args:
        case: The case.
        n_tasks: T.
        seconds: The cell's share of the budget.
    """

    case: Case
    n_tasks: int
    seconds: float
    steps: dict[str, Step] = field(default_factory=dict)
    chunks: dict[str, int | None] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    planned: float = 0.0  # seconds that the rounds of `steps` will take

    def tasks(self, contestant: Contestant) -> int:
        """On how many tasks the contestant is timed."""
        return min(self.n_tasks, contestant.most_tasks or self.n_tasks)


def enter_all(race: Race, cell: Cell) -> None:
    """Runs each contestant's step once or twice and enters it for the cell's rounds, or notes why not."""
    for contestant in race.entered:
        try:
            enter(race, cell, contestant)
        except (RuntimeError, MemoryError) as error:  # one that fails must not end the comparison of the others
            cell.notes[contestant.name] = f"failed: {str(error).splitlines()[0][:100]}"


def enter(race: Race, cell: Cell, contestant: Contestant) -> None:
    """Enters a contestant, unless it is too slow."""
    name, tasks, expected = contestant.name, cell.tasks(contestant), race.expected(cell.case, contestant.name)
    call = (expected or 0.0) * tasks
    if not race.too_slow(cell, name, call):
        step, chunk, call = tried(race, cell, contestant)
        first_call_was_more = expected is None or call > 2 * expected * tasks  # loading, choosing algorithms
        if first_call_was_more and call < LONGEST_CALL:
            call = once(step, race.device)
        race.seconds_per_task.setdefault((cell.case, name), call / tasks)
        if not race.too_slow(cell, name, call):
            race.checks.difference(cell.case, name)  # before the rounds, which take what is left of the cell's share
            cell.steps[name], cell.chunks[name] = step, chunk
            cell.planned += call * MIN_ROUNDS
            return
    cell.notes[name] = f"skipped: too slow for this budget, about {call:.1f} s a step; raise --budget"


def tried(race: Race, cell: Cell, contestant: Contestant) -> tuple[Step, int | None, float]:
    """Makes a contestant's step and runs it once, with as many tasks at a time as the memory holds.

    Returns:
        Its step; the tasks at a time, None for all; the seconds that the call took.
    """
    case, tasks, device = cell.case, cell.tasks(contestant), race.device
    if not contestant.chunks:
        step = contestant.make(case, tasks, device, None)
        return step, None, once(step, device)
    chunk = race.fitting(case, contestant.name, tasks)
    while True:
        step, calls = contestant.make(case, tasks, device, chunk), []
        try:
            peak = memory.peak_during(lambda: calls.append(once(step, device)), device)  # noqa: B023
        except torch.cuda.OutOfMemoryError:
            if chunk == 1:
                raise
        else:
            race.saw_memory(case, contestant.name, chunk or tasks, peak or 0)
            return step, chunk, calls[0]
        chunk = ((chunk or tasks) + 1) // 2
        del step
        memory.release(device)
