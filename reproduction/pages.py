"""RESULTS.md, and parts of two other pages, from the experiments' files alone: `make results`."""

from collections.abc import Sequence
from pathlib import Path

from app.files.atomic_file import write_atomically
from app.files.markdown_text import between_markers, table
from app.process.errors import one_line_errors
from reproduction.experiments import EXPERIMENTS, TASKS, Experiment
from reproduction.record_files import RESULTS, load_valid
from reproduction.shipped import ROOT, common_deviations, deviations
from reproduction.tables import (
    NOT_RUN,
    longest,
    method_table,
    other_characters,
    our_side,
    progress,
    provenance,
    spelled,
)

PAGE = Path("RESULTS.md")
PROGRESS_PAGE = Path("docs/reproduction.md")
README = Path("README.md")
INTRODUCTION = """\
# Results

What Quickstudy reaches on Omniglot beside what the papers report, accuracy in %. Every figure comes from a file in
`results/`, which `make reproduce` writes; `make results` writes this page from them, and nothing in it is written by
hand. [docs/reproduction.md](docs/reproduction.md) says how to run an experiment, and what was found out where one falls
below its paper.

- **paper** and **ours**: mean over the test tasks +- 1.96 standard errors. All seeds of an experiment have the same
  test tasks: *ours* is the mean of their accuracies, with the widest of their intervals.
- **drawing**: how the tasks were made of their numbers. Results of another drawing have other test tasks, as many.
- **verdict**: *inside* the paper's interval, *above* or *below* it; where the paper gives none, our own stands for it.
- **iterations**: the outer steps that were trained. In bold: fewer than the protocol has, which is no reproduction of
  the paper's figure, and only says how far so many lead. Step sizes that fall to 0 at the end, Reptile's and MAML++'s,
  do so within the fewer steps.
- **transductive**: the queries of a task are normalised together, as MAML's authors do it; **inductive**: each query
  with the support set alone, or by running statistics.
"""
COMMON = "Deviations that hold for all, as far as they apply (the methods' lists name their own):"


def main() -> None:
    """Writes all pages."""
    with one_line_errors():
        for path, text in pages(ROOT / RESULTS).items():
            write_atomically(ROOT / path, text)
            print(f"written: {path}")


def pages(folder: Path) -> dict[Path, str]:
    """Every page as the files of a folder have it; of two of them a part alone is written here."""
    parts = {README: ("results", summary), PROGRESS_PAGE: ("progress", progress)}
    written = {PAGE: page(folder)}
    for path, (name, write) in parts.items():
        start, end = f"<!-- {name}: written by make results -->", f"<!-- /{name} -->"
        text = (ROOT / path).read_text("utf-8")
        written[path] = between_markers(text, start, end, write(folder), str(path))
    return written


def page(folder: Path) -> str:
    """RESULTS.md from the files of a folder."""
    parts = [INTRODUCTION, f"{COMMON}\n\n{common_deviations()}", "## Omniglot\n"]
    for method in dict.fromkeys(experiment.method for experiment in EXPERIMENTS.values()):
        experiments = [
            experiment for experiment in EXPERIMENTS.values() if experiment.method == method and experiment.published
        ]
        parts.append(f"### {method}\n\n{method_table(experiments, folder)}\n{protocol_of(experiments)}")
        if method == "ProtoNet":
            parts.append(other_characters(folder))
    parts.append(f"## How each was made\n\n{provenance(EXPERIMENTS.values(), folder)}")
    return "\n".join(parts)


def summary(folder: Path) -> str:
    """A line for each method and evaluation: ours, and the paper's behind it."""
    published = [experiment for experiment in EXPERIMENTS.values() if experiment.published]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for experiment in published:
        runs = longest(load_valid(experiment, folder))
        for paper in experiment.published:
            ours, _, _, length, *_ = our_side(runs, paper)
            part = r"\*" if length.startswith("**") else ""
            ours = "-" if ours == NOT_RUN else f"**{ours.partition(' ')[0]}**{part}"
            rows.setdefault((experiment.method, paper.kind), {})[experiment.task] = f"{ours} ({paper.accuracy:g})"
    lines = [[method, kind, *(of.get(task, "") for task in TASKS)] for (method, kind), of in rows.items()]
    note = (
        "Ours, in brackets the paper's. -: not run. \\*: a part of the paper's iterations; RESULTS.md says how many.\n"
    )
    return f"{table(('', 'evaluation', *map(spelled, TASKS)), lines)}\n{note}"


def protocol_of(experiments: Sequence[Experiment]) -> str:
    """Returns what is done otherwise than in the paper, from the heads of the configurations."""
    known: dict[str, list[str]] = {}
    for experiment in experiments:
        for line in deviations(experiment.config):
            known.setdefault(line, []).append(spelled(experiment.task))
        if experiment.remark:
            known.setdefault(experiment.remark, []).append(spelled(experiment.task))
    lines = [f"- {line}" + ("" if len(of) == len(experiments) else f" ({', '.join(of)})") for line, of in known.items()]
    return "Otherwise than in the paper:\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
