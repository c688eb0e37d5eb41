"""README.md's results, from the machines' files alone: `python -m benchmarks.render` writes them anew."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.files.markdown_text import between_markers, table
from benchmarks import measurements_file, plot
from benchmarks.table import Row, columns_of, shown

README = Path(__file__).parent / "README.md"
START, END = "<!-- results: written by python -m benchmarks -->", "<!-- /results -->"
TITLES = {
    "outer_step": "Outer step",
    "episodes": "Episodes",
    "end_to_end": "End to end",
    "limit": "Limit",
    "growth": "Growth",
    "full_run": "Full run",
}
LEFT_OUT = ("fastest", "slowest")  # in the files


def render(folder: Path, readme: Path = README) -> list[Path]:
    """Writes tables and plots of every file in `folder` into the README; what people wrote around them stays.

    Returns:
        The files written: the README, and a plot beside it for each machine.
    """
    written, parts = [readme], []
    for name, results in measurements_file.load_all(folder).items():
        parts.append(machine_part(results))
        picture = readme.parent / f"outer_step_{name}.png"
        rows = results["sections"].get("outer_step", {}).get("rows", [])
        if plot.curves_of(rows):
            plot.draw(rows, f"Second-order MAML step on {results['machine']['name']}", picture)
            parts.append(f"![Tasks per second against the number of tasks]({picture.name})\n")
            written.append(picture)
    text = readme.read_text(encoding="utf-8") if readme.exists() else f"# Benchmarks\n\n{START}\n{END}\n"
    readme.write_text(between_markers(text, START, END, "\n".join(parts), readme.name), encoding="utf-8")
    return written


def machine_part(results: dict[str, Any]) -> str:
    """A machine's heading and the tables of its sections, without those that are no longer measured."""
    machine = results["machine"]
    facts = ", ".join(f"{key.replace('_', ' ')} {shown(value)}" for key, value in machine.items() if key != "name")
    parts = [f"## {machine['name']}\n\n{facts}\n"]
    for name, title in TITLES.items():
        if (section := results["sections"].get(name)) is None:
            continue
        run = ", ".join(f"{k.replace('_', '-')} {shown(v)}" for k, v in section["run"].items() if v is not None)
        tables = TABLES.get(name, tables_by_columns)(section["rows"])
        parts.append(f"### {title}\n\n{tables}\n<sub>{run}</sub>\n")
    return "\n".join(parts)


def outer_step_tables(rows: Sequence[Row]) -> str:
    """A table for each case: contestants down, numbers of tasks across; tasks per second and the ratio in each cell."""
    tables = []
    for case in dict.fromkeys(str(row["case"]) for row in rows):
        of_case = [row for row in rows if row["case"] == case]
        counts = sorted({int(row["n_tasks"] or 0) for row in of_case})
        lines = []
        for contestant in dict.fromkeys(str(row["contestant"]) for row in of_case):
            cells = {row["n_tasks"]: row for row in of_case if row["contestant"] == contestant}
            differences = [
                row["gradient_difference"] for row in cells.values() if row.get("gradient_difference") is not None
            ]
            line = [contestant, *(speed_cell(cells.get(n_tasks, {})) for n_tasks in counts)]
            lines.append([*line, shown(differences[0]) if differences else ""])
        tables.append(f"**{case}**\n\n" + table(["", *(f"T = {n}" for n in counts), "gradient"], lines))
    return "Tasks per second (times learn2learn's); gradient: relative difference to learn2learn's.\n\n" + "\n".join(
        tables
    )


def speed_cell(row: Row) -> str:
    """For example `119 (1.74x)`; a word where there is no figure."""
    speed, ratio, chosen = row.get("tasks_per_second"), row.get("ratio_to_learn2learn"), row.get("chosen")
    if speed is None:
        return str(row.get("note") or "").partition(":")[0] or ""
    return f"{shown(speed)}" + (f" ({ratio:.2f}x)" if ratio is not None else "") + (f" {chosen}" if chosen else "")


def tables_by_columns(rows: Sequence[Row]) -> str:
    """The rows as they are, in a table for each set of columns."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(key for key in row if key not in LEFT_OUT and key != "note"), []).append(row)
    tables = []
    for group in groups.values():
        columns = [column for column in columns_of(group) if any(row.get(column) is not None for row in group)]
        kept = [column for column in columns if column not in LEFT_OUT]
        heads = [column.replace("_", " ") for column in kept]
        tables.append(table(heads, [[shown(row.get(column)) for column in kept] for row in group]))
    return "\n".join(tables)


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {"outer_step": outer_step_tables}


if __name__ == "__main__":
    print("\n".join(str(path) for path in render(measurements_file.RESULTS)))
