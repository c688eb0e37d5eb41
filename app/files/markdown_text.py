"""Tables in Markdown, and pages of which a part is written by a program."""

from collections.abc import Sequence


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table whose columns but the first are aligned to the right, ending with an empty line."""
    rows = [heads, ["---"] + ["---:"] * (len(heads) - 1), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def between_markers(text: str, start: str, end: str, written: str, page: str) -> str:
    """The text with what stands between two markers replaced.

    Args:
        text: The page, with both markers.
        start: The first marker.
        end: The second one.
        written: What is to stand between them.
        page: The page's name, for the message.

    Raises:
        ValueError: If a marker is not there exactly once, in order.
    """
    before, _, rest = text.partition(start)
    _, found_end, after = rest.partition(end)
    if not found_end or text.count(start) > 1 or text.count(end) > 1:
        raise ValueError(f"{page} must hold {start!r} and after it {end!r}, each once.")
    return f"{before}{start}\n\n{written}\n{end}{after}"
