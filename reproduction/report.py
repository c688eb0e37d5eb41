"""What the command prints: what it is going to do, and what it has found."""

from pathlib import Path

from reproduction.cells import Cell
from reproduction.result import Result, is_whole, percent, score_of, verdict
from reproduction.training import Training


def say_planned(plan: dict[Training, list[Cell]], iterations: int | None) -> None:
    """One line: how much there is to do."""
    if not plan:
        print("Every cell asked for has its result: SEED=N adds one from another seed, ARGS=--again makes it anew.")
        return
    n_cells = sum(len(cells) for cells in plan.values())
    length = "by the papers' protocols" if iterations is None else f"{iterations:,} iterations each"
    print(f"{_counted(n_cells, 'cell')} from {_counted(len(plan), 'training')}, {length}.", flush=True)


def say_found(cell: Cell, found: Result, others: list[Result], path: Path) -> None:
    """A line for each of the paper's figures, one for the other seeds of equal length, and one for the file."""
    lines = []
    for paper in cell.published:
        ours = score_of(found, paper.kind)
        if ours is not None:
            given = percent(paper.accuracy, paper.ci95)
            lines.append(f"{percent(*ours)} % {paper.kind}; the paper: {given} %: {verdict(ours, paper)}")
    if not lines:
        lines.append(f"{percent(100 * found['accuracy'], 100 * found['ci95'])} %")
    length = (
        "" if is_whole(found) else f" after {found['iterations']:,} of {found['iterations_of_protocol']:,} iterations"
    )
    for line in lines:
        print(f"{cell.name}, seed {found['seed']}{length}: {line}")
    for other in others:
        if other["iterations_asked"] == found["iterations_asked"]:
            print(f"  {beside(found, other)}")
    print(f"  written: {path}", flush=True)


def beside(found: Result, other: Result) -> str:
    """How a result stands to that of another seed."""
    difference = 100 * (found["accuracy"] - other["accuracy"])
    inside = abs(difference) <= 100 * other["ci95"]
    return (
        f"seed {other['seed']} has {percent(100 * other['accuracy'], 100 * other['ci95'])} %: this one lies "
        f"{'within' if inside else 'outside'} its interval ({difference:+.2f})"
    )


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
