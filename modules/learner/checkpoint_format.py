"""The number of a checkpoint's format: what was written in another one is refused in a line."""

from collections.abc import Mapping
from typing import Any

KEY = "format"  # a checkpoint's key
FORMAT = 1  # raise it where the entries of a checkpoint change their meaning, or a task's number draws another task


def format_refusal(checkpoint: Mapping[str, Any]) -> str | None:
    """Says that a checkpoint cannot be read, and what to do; None where it can.

    Args:
        checkpoint: A checkpoint's contents.

    Example:
        >>> format_refusal({"format": FORMAT})
        >>> format_refusal({"state_dict": {}})
        'its format is not numbered, and format 1 is read here: use the version that wrote it, or train anew'
    """
    found = checkpoint.get(KEY)
    if found == FORMAT:
        return None
    of_file = "its format is not numbered" if found is None else f"its format is {found!r}"
    return f"{of_file}, and format {FORMAT} is read here: use the version that wrote it, or train anew"
