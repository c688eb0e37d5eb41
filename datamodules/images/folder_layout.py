"""The classes in a folder of folders: the first ones, or those that hold the images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

Which = Literal["top", "deepest"]

SHOWN = 3
SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing"}


class ClassFiles(NamedTuple):
    """The files of one class, by their paths."""

    name: str
    paths: tuple[Path, ...]


def arranged(root: Path, tops: Sequence[ClassFiles], which: Which | None) -> list[ClassFiles]:
    """The classes of a folder.

    Args:
        root: The folder.
        tops: Its first folders, each with all images in it, however deep.
        which: "top": these are the classes; "deepest": each folder that itself holds images is one, named by its path
            from `root`, as "alphabet/character"; None: these, where the deepest folders part the images alike.

    Returns:
        The classes in the order of their names.

    Raises:
        ValueError: If `which` is None and the two differ; says what each would be.
    """
    holders: dict[Path, list[Path]] = {}
    for entry in tops:
        for path in entry.paths:
            holders.setdefault(path.parent, []).append(path)
    deepest = [ClassFiles(folder.relative_to(root).as_posix(), tuple(paths)) for folder, paths in holders.items()]
    deepest = sorted(deepest + [entry for entry in tops if not entry.paths])
    if which == "deepest":
        return deepest
    if which is None and any(len({path.parent for path in entry.paths}) > 1 for entry in tops):
        raise ValueError(_question(root, tops, deepest))
    return list(tops)


def _question(root: Path, tops: Sequence[ClassFiles], deepest: Sequence[ClassFiles]) -> str:
    """Names what is not clear, and the options that make it clear."""
    return (
        f"{root} holds folders of folders, so its classes are not clear: set data.classes to deepest for the "
        f"{len(deepest):,} folders that hold images ({_names(deepest)}), or to top for the {len(tops):,} folders "
        f"above them, each with all images in it ({_names(tops)}){_hint(root, tops)}."
    )


def _hint(root: Path, tops: Sequence[ClassFiles]) -> str:
    """Names the folder that may have been meant."""
    if len(tops) == 1:
        return f"; or give {root / tops[0].name}, which is all that {root} holds, in its place"
    splits = [entry.name for entry in tops if entry.name.lower() in SPLIT_NAMES]
    if len(splits) == len(tops):
        return (
            f"; where these are splits, give one of them, as {root / splits[0]}, in its place, or to train on them "
            "name them train, val and test"
        )
    return ""


def _names(classes: Sequence[ClassFiles]) -> str:
    shown = ", ".join(repr(entry.name) for entry in classes[:SHOWN])
    return shown + (", ..." if len(classes) > SHOWN else "")
