"""Tables of what the experiments' files hold, beside what the papers report."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from app.files.markdown_text import table
from reproduction.experiments import EXPERIMENTS, OTHER_CHARACTERS, TASKS, Experiment, Published
from reproduction.record import (
    Result,
    Score,
    drawing_of,
    is_whole,
    own_score,
    percent,
    score_of,
    stopped_by_itself,
    verdict,
)
from reproduction.record_files import load, load_valid

NOT_RUN = "not run"
MARKS = (500, 1000, 2000, 4000, 6000, 12000, 20000, 40000, 60000)


def method_table(experiments: Iterable[Experiment], folder: Path) -> str:
    """A line for each figure of the papers."""
    heads = ("task", "evaluation", "paper", "ours", "difference", "verdict", "iterations", "seeds", "test tasks")
    lines = []
    for experiment in experiments:
        runs = longest(load_valid(experiment, folder))
        for paper in experiment.published:
            lines.append(
                [spelled(experiment.task), paper.kind, percent(paper.accuracy, paper.ci95), *our_side(runs, paper)]
            )
    return table(heads, lines)


def our_side(runs: Sequence[Result], paper: Published) -> list[str]:
    """Our side of a line."""
    scored = [(run, score) for run in runs if (score := score_of(run, paper.kind)) is not None]
    if not scored:
        return [NOT_RUN, "", "", "", "", ""]
    ours = mean_of([score for _, score in scored])
    of_seeds = ", ".join(f"{run['seed']}: {score[0]:.2f}" for run, score in scored)
    n_tasks = ", ".join(f"{n:,}" for n in sorted({run["n_tasks"] for run, _ in scored}))
    difference = f"{ours[0] - paper.accuracy:+.2f}"
    length = length_of([run for run, _ in scored])
    return [percent(*ours), difference, verdict(ours, paper), length, of_seeds, n_tasks]


def mean_of(scores: Sequence[Score]) -> Score:
    """The mean accuracy of several seeds and the widest interval: the test tasks, which it measures, are the same.

    Those of another drawing are others; the interval is of their number and not of which they are.
    """
    widths = [ci95 for _, ci95 in scores if ci95 is not None]
    return sum(accuracy for accuracy, _ in scores) / len(scores), max(widths, default=None)


def longest(runs: Sequence[Result]) -> list[Result]:
    """The seeds of the longest training; `runs` are sorted by length."""
    return [run for run in runs if run["iterations_asked"] == runs[0]["iterations_asked"]]


def length_of(runs: Sequence[Result]) -> str:
    """For example "**12,000 of 60,000** (20%)"; of a training that stopped by itself, where it did."""
    counts, protocol = sorted({run["iterations"] for run in runs}), runs[0]["iterations_of_protocol"]
    steps = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    if not all(is_whole(run) for run in runs):
        return f"**{steps} of {protocol:,}** ({counts[-1] / protocol:.0%})"
    return f"{steps}, then no better" if any(stopped_by_itself(run) for run in runs) else steps


def other_characters(folder: Path) -> str:
    """ProtoNet on the paper's split, and trained on Lake's background alphabets."""
    lines = []
    for task in TASKS:
        names = ["protonet_omniglot", *(f"protonet_omniglot_{name}" for name in OTHER_CHARACTERS)]
        lines.append(
            [
                spelled(task),
                *(with_length(longest(load_valid(EXPERIMENTS[f"{name}_{task}"], folder))) for name in names),
            ]
        )
    heads = ("task", "Vinyals's split", "Lake's split", "Lake's split, one alphabet a task")
    return (
        "The same network and training on other characters: 25 background alphabets of Lake et al. for training and 5\n"
        "for validation, their 20 evaluation alphabets for test; then tests whose tasks stay in one alphabet.\n\n"
        f"{table(heads, lines)}"
    )


def with_length(runs: Sequence[Result]) -> str:
    """For example "98.70 +- 0.40 after 6,000 of 60,000 (10%)"."""
    if not runs:
        return NOT_RUN
    ours = mean_of([own_score(run) for run in runs])
    return f"{percent(*ours)} after {length_of(runs).replace('*', '')}"


def provenance(experiments: Iterable[Experiment], folder: Path) -> str:
    """A line for each record."""
    made_by = ("trained by", "tested by", "drawing", "configuration")
    heads = ("command", "tested at", "training", "tasks/s", *made_by, "date")
    lines = []
    for experiment in experiments:
        valid = load_valid(experiment, folder)
        for run in load(experiment, folder):
            parts = [f"{of_commit(part['commit'])} on {part['device'] or 'unknown'}" for part in run["trained_by"]]
            shared = f" ({run['jobs']} at once)" if run["jobs"] > 1 else ""
            lines.append(
                [
                    f"`{run['command']}`",
                    f"{run['tested_iteration']:,}",
                    f"{run['wall_time'] / 60:.0f} min",
                    f"{run['tasks_per_second']:g}{shared}",
                    ", ".join(parts),
                    f"{of_commit(run['commit'])} on {run['device']}, torch {run['versions']['torch']}",
                    str(drawing_of(run)),
                    run["configuration"] + ("" if run in valid else " (by earlier settings: not in the tables)"),
                    run["date"],
                ]
            )
    return table(heads, lines) if lines else NOT_RUN.capitalize() + ".\n"


def of_commit(commit: str | None) -> str:
    """The first digits, and whether the code had been changed."""
    if commit is None:
        return "unknown"
    return commit[:10] + (" (changed)" if commit.endswith("-dirty") else "")


def progress(folder: Path) -> str:
    """The best validation accuracy until some steps, in each training's longest run."""
    lines = []
    for experiment in EXPERIMENTS.values():
        runs = [] if experiment.test_options is not None else longest(load_valid(experiment, folder))
        for run in runs[:1]:
            until = [[accuracy for step, accuracy in run["validation"] if step <= mark] for mark in MARKS]
            reached = [mark <= run["iterations"] for mark in MARKS]
            shown = [
                f"{100 * max(seen):.1f}" if seen and is_in else "" for seen, is_in in zip(until, reached, strict=True)
            ]
            lines.append([experiment.name, *shown])
    return table(("validation accuracy until step", *(f"{mark:,}" for mark in MARKS)), lines)


def spelled(task: str) -> str:
    """For example "5-way 1-shot" for 5w1s."""
    way, shot = task.removesuffix("s").split("w")
    return f"{way}-way {shot}-shot"
