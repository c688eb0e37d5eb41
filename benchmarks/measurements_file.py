"""The file of a machine's results: one JSON, a part of it for each section."""

import json
import math
from pathlib import Path
from typing import Any

from benchmarks.table import Row

RESULTS = Path(__file__).parent / "results"


def merge(path: Path, machine: Row, run: Row, section: str, rows: list[Row]) -> None:
    """Puts a section's rows into a machine's file in place of its former ones; the other sections stay.

    Args:
        path: The file; made where it is not there yet.
        machine: What `machine.describe` says.
        run: What `machine.describe_run` says; kept with the section, since another may be of another commit.
        section: Name of the section.
        rows: Flat dictionaries of scalars.

    Raises:
        ValueError: If a row holds anything else.
    """
    for row in rows:
        if nested := [key for key, value in row.items() if not isinstance(value, str | int | float | bool | None)]:
            raise ValueError(f"a row of {section} holds more than scalars under {nested}: flatten it.")
    results = load(path) if path.exists() else {"machine": {}, "sections": {}}
    results["machine"] = machine
    results["sections"][section] = {"run": run, "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text(results), encoding="utf-8")
    unfinished.replace(path)


def load(path: Path) -> dict[str, Any]:
    """A machine's results: "machine" and "sections", each of these with its "run" and "rows"."""
    return json.loads(path.read_text(encoding="utf-8"))


def load_all(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Every machine's results by the name of its file, in alphabetical order."""
    return {path.stem: load(path) for path in sorted(folder.glob("*.json"))}


def text(results: dict[str, Any]) -> str:
    """The JSON with a line for each row, so that a difference between two versions can be read."""
    lines = ["{", f' "machine": {_line(results["machine"])},', ' "sections": {']
    parts = []
    for name, section in results["sections"].items():
        rows = ",\n".join(f"   {_line(row)}" for row in section["rows"])
        parts.append(f'  {json.dumps(name)}: {{\n   "run": {_line(section["run"])},\n   "rows": [\n{rows}\n   ]}}')
    return "\n".join([*lines, ",\n".join(parts), " }", "}"]) + "\n"


def _line(row: Row) -> str:
    finite = {key: str(v) if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
    return json.dumps(finite, ensure_ascii=False)
