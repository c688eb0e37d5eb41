"""A table that prints itself line by line, so that a long run shows what it has."""

from collections.abc import Iterable, Mapping

Scalar = str | int | float | bool | None
Row = dict[str, Scalar]


class Table:
    """Rows of scalars under a heading, each printed when it is known.

    Args:
        columns: Key of a row -> width of its column; what the row has besides is not printed, except its "note", which
            ends the line.
    """

    def __init__(self, columns: Mapping[str, int]) -> None:
        self.columns = dict(columns)
        self._headed = False

    def add(self, row: Row) -> None:
        """Prints a row, and the heading before the first."""
        if not self._headed:
            self._headed = True
            print("  ".join(name.replace("_", " ").rjust(width) for name, width in self.columns.items()), flush=True)
        cells = [shown(row.get(name)).rjust(width) for name, width in self.columns.items()]
        print("  ".join([*cells, str(row.get("note") or "")]).rstrip(), flush=True)


def shown(value: Scalar) -> str:
    """A scalar as a reader wants it: floats to three digits, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}" if size >= 1e-3 or not value else f"{value:.1e}"


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Every key of the rows, in the order in which they first appear."""
    return list(dict.fromkeys(key for row in rows for key in row))
