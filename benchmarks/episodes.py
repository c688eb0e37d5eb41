"""Tasks per second out of our DataModule, images gathered and normalised, beside other libraries' task samplers."""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.cases import CONV4_CASES
from benchmarks.contestants import our_step
from benchmarks.omniglot_images import omniglot, split_images
from benchmarks.options import Options
from benchmarks.peers import easyfsl_tasks, learn2learn_tasks
from benchmarks.table import Row, Table
from benchmarks.timing import Contestant, Timing, compare, once
from datamodules import Omniglot

OURS, REFERENCE = "quickstudy", learn2learn_tasks.NAME
STEP = CONV4_CASES[0]  # the cheapest outer step, of which episodes must be the smallest share
SHAPE = (STEP.n_way, STEP.k_shot, STEP.n_query)
N_TASKS = (32, 512)
CALL_SECONDS = 0.05  # what is timed at once: as many batches as take about so long
COLUMNS = {
    "data": 28,
    "n_tasks": 7,
    "contestant": 20,
    "tasks_per_second": 16,
    "ratio_to_learn2learn": 20,
    "share_of_outer_step": 19,
    "seconds": 9,
    "rounds": 6,
}


def run(options: Options) -> list[Row]:
    """A row for each number of tasks and contestant."""
    if options.data is None:
        print("episodes: no images; name the folder that holds omniglot/ with --data or QUICKSTUDY_DATA")
        return []
    table, rows = Table(COLUMNS), []
    data = omniglot(options.data, *SHAPE)
    images, labels = split_images(data, "train")
    end = time.perf_counter() + options.seconds
    for position, n_tasks in enumerate(N_TASKS):
        seconds = (end - time.perf_counter()) / (len(N_TASKS) - position)
        for row in measure(data, images, labels, n_tasks, seconds, options.device):
            table.add(row)
            rows.append(row)
    return rows


def measure(
    data: Omniglot, images: Tensor, labels: Tensor, n_tasks: int, seconds: float, device: torch.device
) -> Iterator[Row]:
    """Times ours and the peers that are installed on batches of T tasks."""
    batches = {OURS: our_batches(data, n_tasks, device)}
    batches |= peers(images, labels, n_tasks, device)
    calls = {name: repeated(batch, device) for name, batch in batches.items()}
    timings = compare({name: call for name, (call, _) in calls.items()}, seconds * 0.7, device)
    step = compare({"step": our_step("auto", STEP, n_tasks, device)}, seconds * 0.2, device)["step"].median
    per_batch = {name: scaled(timing, calls[name][1]) for name, timing in timings.items()}
    for name, timing in per_batch.items():
        yield {
            "data": "Omniglot 5w1s 1 query 28x28",
            "n_tasks": n_tasks,
            "contestant": name,
            "tasks_per_second": n_tasks / timing.median,
            "ratio_to_learn2learn": per_batch[REFERENCE].median / timing.median if REFERENCE in per_batch else None,
            "share_of_outer_step": timing.median / step if name == OURS else None,
            "seconds": timing.median,
            "fastest": timing.minimum,
            "slowest": timing.maximum,
            "rounds": timing.rounds,
            "batches_per_round": calls[name][1],
        }


def our_batches(data: Omniglot, n_tasks: int, device: torch.device) -> Contestant:
    """Draws one batch: what the loader and its hook do in a Trainer."""
    data.meta_batch_size = n_tasks
    stream = iter(data.train_dataloader())
    return lambda: data.episode("train", next(stream).to(device, non_blocking=True))  # as Lightning moves it


def peers(images: Tensor, labels: Tensor, n_tasks: int, device: torch.device) -> dict[str, Contestant]:
    """The other libraries' batches; for one that is not installed a line is printed."""
    found = {}
    for peer in (learn2learn_tasks, easyfsl_tasks):
        try:
            found[peer.NAME] = peer.make_batches(images, labels, *SHAPE, n_tasks, device)
        except ModuleNotFoundError as error:
            print(f"{peer.NAME} is left out: {error} (pip install --no-deps -r requirements-bench.txt)")
    return found


def repeated(batch: Contestant, device: torch.device) -> tuple[Contestant, int]:
    """A call that makes enough batches to be timed well, and how many those are."""
    batch()
    count = max(1, round(CALL_SECONDS / once(batch, device)))

    def call() -> None:
        for _ in range(count):
            batch()  # dropped at once, as in training: memory that is kept must be asked for anew

    return call, count


def scaled(timing: Timing, count: int) -> Timing:
    """The times of one batch, from those of so many."""
    return replace(timing, median=timing.median / count, minimum=timing.minimum / count, maximum=timing.maximum / count)
