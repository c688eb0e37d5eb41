"""RESULTS.md, and parts of two other pages, from the cells' files alone: `make results`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from app.errors import one_line_errors
from app.markdown_text import between_markers, table
from app.whole_file import write_whole
from reproduction.ablations import ABLATIONS
from reproduction.cells import CELLS, OTHER_CHARACTERS, TASKS, Cell, Published
from reproduction.result import KINDS, Result, is_whole, percent, score_of, stopped_by_itself, verdict
from reproduction.result_files import RESULTS, load, load_valid
from reproduction.shipped import ROOT, deviations

PAGE = Path("RESULTS.md")
ABLATIONS_PAGE = Path("docs/reproduction.md")
README = Path("README.md")
NOT_RUN = "not run"
INTRODUCTION = """\
# Results

What Quickstudy reaches on Omniglot beside what the papers report, accuracy in %. Every figure comes from a file in
`results/`, which `make reproduce` writes; `make results` writes this page from them, and nothing in it is written by
hand. [docs/reproduction.md](docs/reproduction.md) says how to run a cell, and what was found out where one falls below
its paper.

- **paper** and **ours**: mean over the test tasks +- 1.96 standard errors. All seeds of a cell have the same test
  tasks: *ours* is the mean of their accuracies, with the widest of their intervals.
- **verdict**: *inside* the paper's interval, *above* or *below* it; where the paper gives none, our own stands for it.
- **iterations**: the outer steps that were trained. In bold: fewer than the protocol has, which is no reproduction of
  the paper's figure, and only says how far so many lead. Step sizes that fall to 0 at the end, Reptile's and MAML++'s,
  do so within the fewer steps.
- **transductive**: the queries of a task are normalised together, as MAML's authors do it; **inductive**: each query
  with the support set alone, or by running statistics.
"""


def main() -> None:
    """Writes all pages."""
    with one_line_errors():
        for path, text in pages(ROOT / RESULTS).items():
            write_whole(ROOT / path, text)
            print(f"written: {path}")


def pages(folder: Path) -> dict[Path, str]:
    """Every page as the files of a folder have it; of two of them a part alone is written here."""
    parts = {README: ("results", summary), ABLATIONS_PAGE: ("ablations", ablations)}
    written = {PAGE: page(folder)}
    for path, (name, write) in parts.items():
        start, end = f"<!-- {name}: written by make results -->", f"<!-- /{name} -->"
        text = (ROOT / path).read_text("utf-8")
        written[path] = between_markers(text, start, end, write(folder), str(path))
    return written


def page(folder: Path) -> str:
    """RESULTS.md from the files of a folder."""
    parts = [INTRODUCTION, "## Omniglot\n"]
    for method in dict.fromkeys(cell.method for cell in CELLS.values()):
        cells = [cell for cell in CELLS.values() if cell.method == method and cell.published]
        parts.append(f"### {method}\n\n{method_table(cells, folder)}\n{protocol_of(cells)}")
        if method == "ProtoNet":
            parts.append(other_characters(folder))
    parts.append(f"## How each was made\n\n{provenance(CELLS.values(), folder)}")
    return "\n".join(parts)


def method_table(cells: Iterable[Cell], folder: Path) -> str:
    """A line for each figure of the papers."""
    heads = ("task", "evaluation", "paper", "ours", "difference", "verdict", "iterations", "seeds", "test tasks")
    lines = []
    for cell in cells:
        runs = longest(load_valid(cell, folder))
        for paper in cell.published:
            lines.append([spelled(cell.task), paper.kind, percent(paper.accuracy, paper.ci95), *our_side(runs, paper)])
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


def mean_of(scores: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The mean accuracy of several seeds and the widest interval: the test tasks, which it measures, are the same."""
    return sum(accuracy for accuracy, _ in scores) / len(scores), max(ci95 for _, ci95 in scores)


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


def protocol_of(cells: Sequence[Cell]) -> str:
    """What is done otherwise than in the paper, from the heads of the configurations."""
    known: dict[str, list[str]] = {}
    for cell in cells:
        for line in deviations(cell.config):
            known.setdefault(line, []).append(spelled(cell.task))
        if cell.remark:
            known.setdefault(cell.remark, []).append(spelled(cell.task))
    lines = [f"- {line}" + ("" if len(of) == len(cells) else f" ({', '.join(of)})") for line, of in known.items()]
    return "Otherwise than in the paper:\n\n" + "\n".join(lines) + "\n"


def other_characters(folder: Path) -> str:
    """ProtoNet on the paper's split, and trained on Lake's background alphabets."""
    lines = []
    for task in TASKS:
        names = ["protonet_omniglot", *(f"protonet_omniglot_{name}" for name in OTHER_CHARACTERS)]
        lines.append(
            [spelled(task), *(with_length(longest(load_valid(CELLS[f"{name}_{task}"], folder))) for name in names)]
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
    ours = mean_of([(100 * run["accuracy"], 100 * run["ci95"]) for run in runs])
    return f"{percent(*ours)} after {length_of(runs).replace('*', '')}"


def provenance(cells: Iterable[Cell], folder: Path) -> str:
    """A line for each record."""
    heads = ("command", "tested at", "training", "tasks/s", "trained by", "tested by", "configuration", "date")
    lines = []
    for cell in cells:
        valid = load_valid(cell, folder)
        for run in load(cell, folder):
            parts = [f"{of_commit(part['commit'])} on {part['device'] or '?'}" for part in run["trained_by"]]
            shared = f" ({run['jobs']} at once)" if run["jobs"] > 1 else ""
            lines.append(
                [
                    f"`{run['command']}`",
                    f"{run['tested_iteration']:,}",
                    f"{run['wall_time'] / 60:.0f} min",
                    f"{run['tasks_per_second']:g}{shared}",
                    ", ".join(parts),
                    f"{of_commit(run['commit'])} on {run['device']}, torch {run['versions']['torch']}",
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


def summary(folder: Path) -> str:
    """A line for each method and evaluation: ours, and the paper's behind it."""
    published = [cell for cell in CELLS.values() if cell.published]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for cell in published:
        runs = longest(load_valid(cell, folder))
        for paper in cell.published:
            ours, _, _, length, *_ = our_side(runs, paper)
            part = "*" if length.startswith("**") else ""
            ours = "-" if ours == NOT_RUN else f"**{ours.partition(' ')[0]}**{part}"
            rows.setdefault((cell.method, paper.kind), {})[cell.task] = f"{ours} ({paper.accuracy:g})"
    lines = [[method, kind, *(of.get(task, "") for task in TASKS)] for (method, kind), of in rows.items()]
    note = "Ours, in brackets the paper's. -: not run. *: a part of the paper's iterations; RESULTS.md says how many.\n"
    return f"{table(('', 'evaluation', *map(spelled, TASKS)), lines)}\n{note}"


def ablations(folder: Path) -> str:
    """A table for each cell of which variants were run."""
    tables = [ablation_table(CELLS[base], folder) for base in dict.fromkeys(v.base for v in ABLATIONS.values())]
    return "\n".join(found for found in tables if found) or NOT_RUN.capitalize() + ".\n"


def ablation_table(base: Cell, folder: Path) -> str:
    """A line for each variant that was run, beside the cell itself with the same seed and iterations."""
    lines = []
    for variant in [cell for cell in ABLATIONS.values() if cell.base == base.name]:
        for run in load_valid(variant, folder):
            same = (run["seed"], run["iterations_asked"])
            of_base = [r for r in load_valid(base, folder) if (r["seed"], r["iterations_asked"]) == same]
            changed = " ".join(variant.options[len(base.options) :])
            lines.append([f"`{changed}`", f"{same[1]:,}", str(same[0]), *beside_base(run, of_base)])
    if not lines:
        return ""
    heads = ("changed", "iterations", "seed", "as it is", "changed so", "worth", "other evaluation")
    return f"**{base.name}**\n\n{table(heads, lines)}"


def beside_base(run: Result, of_base: Sequence[Result]) -> list[str]:
    """A variant's accuracy beside the cell's, by the cell's own evaluation, and the difference by the other one."""
    ours = 100 * run["accuracy"], 100 * run["ci95"]
    if not of_base:
        return [NOT_RUN, percent(*ours), "", ""]
    own = 100 * of_base[0]["accuracy"], 100 * of_base[0]["ci95"]
    others = []
    for kind in KINDS:
        here, there = score_of(run, kind), score_of(of_base[0], kind)
        if here and there and kind != ("transductive" if of_base[0]["transductive"] else "inductive"):
            others.append(f"{kind} {here[0] - there[0]:+.2f}")
    return [percent(*own), percent(*ours), f"{ours[0] - own[0]:+.2f}", ", ".join(others)]


def spelled(task: str) -> str:
    """For example "5-way 1-shot" for 5w1s."""
    way, shot = task.removesuffix("s").split("w")
    return f"{way}-way {shot}-shot"


if __name__ == "__main__":
    main()
