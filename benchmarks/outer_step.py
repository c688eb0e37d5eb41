"""Tasks per second of the second-order MAML step: each of our strategies beside other libraries."""

import time

import torch

from benchmarks import memory
from benchmarks.cases import CONV4_CASES, Case, resnet_case
from benchmarks.contestants import AUTO, REFERENCE, Contestant, contestants
from benchmarks.options import Options
from benchmarks.race import Cell, Race, enter_all
from benchmarks.table import Row, Table
from benchmarks.timing import Timing, compare
from modules.learner.learner import Learner

N_TASKS = (1, 4, 16, 32, 128, 512)
COLUMNS = {
    "case": 24,
    "n_tasks": 7,
    "contestant": 22,
    "tasks_per_second": 16,
    "ratio_to_learn2learn": 20,
    "gradient_difference": 19,
    "gradient_difference_float32": 27,
    "seconds": 8,
    "rounds": 6,
}


def run(options: Options) -> list[Row]:
    """Times every case with every number of tasks, small ones first, each printed when it is there."""
    entered, table, rows = installed(options.device), Table(COLUMNS), []
    race = Race(entered, options.device, options.seconds)
    cells = [(case, n_tasks) for n_tasks in N_TASKS for case in CONV4_CASES]
    resnet = resnet_case(options.device)
    cells += [(resnet, n_tasks) for n_tasks in ((1, 4, 16) if options.device.type == "cuda" else (2,))]
    end = time.perf_counter() + options.seconds
    for position, (case, n_tasks) in enumerate(cells):
        weights = [weight(*cell) for cell in cells[position:]]
        seconds = max(0.0, end - time.perf_counter()) * weights[0] / sum(weights)
        for row in measure(race, Cell(case, n_tasks, seconds)):
            table.add(row)
            rows.append(row)
    return rows


def installed(device: torch.device) -> list[Contestant]:
    """The contestants whose library is there; for the others a line is printed."""
    found = []
    for contestant in contestants(device):
        try:
            contestant.make(CONV4_CASES[0], 1, device, None)()
        except ModuleNotFoundError as error:
            print(f"{contestant.name} is left out: {error} (pip install --no-deps -r requirements-bench.txt)")
            continue
        except RuntimeError:  # its rows will say what failed
            pass
        found.append(contestant)
    return found


def weight(case: Case, n_tasks: int) -> float:
    """A cell's share of the time: more for more work, not in proportion, so that small ones get their rounds."""
    return (case.gigaflop * min(n_tasks, 32)) ** 0.7


def measure(race: Race, cell: Cell) -> list[Row]:
    """Times the contestants on a cell; a row for each, also for those left out."""
    start = time.perf_counter()
    enter_all(race, cell)
    seconds = max(race.least, cell.seconds - (time.perf_counter() - start))
    timings = compare(cell.steps, seconds, race.device, warm_up=False)
    memory.release(race.device)
    rows: list[Row] = []
    for contestant in race.entered:
        row: Row = {"case": cell.case.name, "n_tasks": cell.n_tasks, "contestant": contestant.name}
        if timing := timings.get(contestant.name):
            race.seconds_per_task[cell.case, contestant.name] = timing.median / cell.tasks(contestant)
            row |= timed(race, cell, contestant, timing)
        rows.append(row | {"note": cell.notes.get(contestant.name)})
    return rows


def timed(race: Race, cell: Cell, contestant: Contestant, timing: Timing) -> Row:
    """The figures of a contestant's row."""
    name, tasks = contestant.name, cell.tasks(contestant)
    reference = race.seconds_per_task.get((cell.case, REFERENCE)) if REFERENCE in cell.steps else None
    learner = cell.steps[name].learner
    chosen = learner.task_strategy if learner and name.startswith(AUTO) else None
    chunk = tasks_at_once(learner, cell.n_tasks) if learner else cell.chunks[name]
    notes = [f"timed on {tasks} tasks" if tasks < cell.n_tasks else "", f"auto: {chosen}" if chosen else ""]
    notes.append(f"{chunk} tasks at a time" if chunk else "")
    cell.notes[name] = ", ".join(note for note in notes if note)
    difference = race.checks.difference(cell.case, name)
    return {
        "tasks_per_second": tasks / timing.median,
        "ratio_to_learn2learn": reference * tasks / timing.median if reference else None,
        "gradient_difference": difference.float64 if difference else None,
        "gradient_difference_float32": difference.float32 if difference else None,
        "seconds": timing.median,
        "fastest": timing.minimum,
        "slowest": timing.maximum,
        "rounds": timing.rounds,
        "tasks_measured": tasks,
        "task_chunk": chunk,
        "chosen": chosen,
    }


def tasks_at_once(learner: Learner, n_tasks: int) -> int | None:
    """Tells how many tasks our learner computed at once, which it chooses where `task_chunk` does not; None: all."""
    size = learner.task_chunk
    return size if size and size < n_tasks else None
