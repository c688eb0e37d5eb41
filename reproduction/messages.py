"""What the command says: what it is going to do, and what it has found."""

from pathlib import Path

from reproduction.experiments import Experiment
from reproduction.record import Result, drawing_of, is_whole, own_score, percent, score_of, verdict
from reproduction.training import Training


def lines_of_plan(plan: dict[Training, list[Experiment]], iterations: int | None) -> list[str]:
    """Tells how much there is to do."""
    if not plan:
        return [
            "Every experiment asked for has its result: SEED=N adds one from another seed, ARGS=--again makes it anew."
        ]
    n_experiments = sum(len(experiments) for experiments in plan.values())
    length = "by the papers' protocols" if iterations is None else f"{iterations:,} iterations each"
    return [f"{_counted(n_experiments, 'experiment')} from {_counted(len(plan), 'training')}, {length}."]


def lines_of_result(experiment: Experiment, result: Result, others: list[Result], path: Path) -> list[str]:
    """One for each of the paper's figures, one for each other seed of equal length, and one for the file."""
    found = []
    for paper in experiment.published:
        ours = score_of(result, paper.kind)
        if ours is not None:
            given = percent(paper.accuracy, paper.ci95)
            found.append(f"{percent(*ours)} % {paper.kind}; the paper: {given} %: {verdict(ours, paper)}")
    found = found or [f"{percent(*own_score(result))} %"]
    part = f" after {result['iterations']:,} of {result['iterations_of_protocol']:,} iterations"
    head = f"{experiment.name}, seed {result['seed']}{'' if is_whole(result) else part}"
    compared = [beside_seed(result, other) for other in others]
    compared = compared or ["no other seed of these iterations is there to compare with"]
    return [*(f"{head}: {line}" for line in found), *(f"  {line}" for line in compared), f"  written: {path}"]


def beside_seed(result: Result, other: Result) -> str:
    """Tells how a result stands to that of another seed."""
    difference = 100 * (result["accuracy"] - other["accuracy"])
    accuracy, half_width = own_score(other)
    tasks = "" if drawing_of(other) == drawing_of(result) else f", on the test tasks of drawing {drawing_of(other)}"
    has = f"seed {other['seed']} has {percent(accuracy, half_width)} %{tasks}"
    if half_width is None:
        return f"{has} ({difference:+.2f})"
    where = "within" if abs(difference) <= half_width else "outside"
    return f"{has}: this one lies {where} its interval ({difference:+.2f})"


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
