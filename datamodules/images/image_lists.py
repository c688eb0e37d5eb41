"""Lists of images and their labels, in the two forms in which few-shot splits are published."""

import csv
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.images.image_files import ClassFiles

SHOWN = 3  # places named in an error
COLUMNS = ["filename", "label"]
KEYS = ("label_names", "image_names", "image_labels")


class Entry(NamedTuple):
    """An image of a list: where it stands there, its file's name and its label."""

    place: str
    name: str
    label: str


def read_list(path: Path, folders: list[Path]) -> list[ClassFiles]:
    """The classes of one split.

    Args:
        path: A CSV of `filename,label` lines (Ravi and Larochelle), or a JSON file of `label_names`, `image_names` and
            `image_labels` (Chen et al., CloserLookFewShot).
        folders: Where file names are looked for, in this order, unless they are absolute.

    Returns:
        The classes by name, the files of each in the list's order.

    Raises:
        ValueError: If the list is not there or of another form, an entry lacks its label, a file stands twice, or the
            first file is in none of the folders.
    """
    entries = _json_entries(path) if path.suffix.lower() == ".json" else _csv_entries(path)
    if not entries:
        raise ValueError(f"{path} lists no image.")
    check_entries(path, entries)
    base = _folder_of(entries[0].name, folders, path)
    classes: dict[str, list[Path]] = {}
    for entry in entries:
        classes.setdefault(entry.label, []).append(base / entry.name)
    return [ClassFiles(label, tuple(classes[label])) for label in sorted(classes)]


def check_entries(path: Path, entries: list[Entry]) -> None:
    """Checks that every entry of a list has a file and a label, and that no file stands twice.

    Raises:
        ValueError: If not; names the lines.
    """
    wrong: list[str] = []
    seen: dict[str, Entry] = {}
    for entry in entries:
        if not entry.name.strip() or not entry.label.strip():
            wrong.append(f"{entry.place} has no {'label' if entry.name.strip() else 'file name'}")
            continue
        first = seen.setdefault(os.path.normpath(entry.name), entry)
        if first is not entry:
            places = f"{first.place} and {entry.place}"
            two = f"two labels, {first.label!r} and {entry.label!r}" if first.label != entry.label else "the same label"
            wrong.append(f"{places} give {entry.name} {two}")
    if wrong:
        more = f"; and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
        raise ValueError(f"{path}: {'; '.join(wrong[:SHOWN])}{more}. Each image stands once, with one label.")


def _folder_of(name: str, folders: list[Path], path: Path) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder
    places = ", ".join(str(folder) for folder in folders)
    raise ValueError(f"the first image of {path}, {name}, is not in {places}.")


def _csv_entries(path: Path) -> list[Entry]:
    try:
        with _opened(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8 ({error}): save it as one.") from error
    if not rows or [cell.strip() for cell in rows[0][1]] != COLUMNS:
        raise ValueError(f"{path} does not begin with the line {','.join(COLUMNS)}.")
    for number, row in rows[1:]:
        if row and len(row) != 2:
            raise ValueError(f"{path}, line {number}, is not a file name and a label: {','.join(row)[:80]!r}.")
    return [Entry(f"line {number}", row[0].strip(), row[1].strip()) for number, row in rows[1:] if row]


def _json_entries(path: Path) -> list[Entry]:
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in KEYS):
        raise ValueError(f"{path} does not hold the lists {', '.join(KEYS)}.")
    names, images, labels = (content[key] for key in KEYS)
    if len(images) != len(labels):
        raise ValueError(f"{path} has {len(images):,} image_names, but {len(labels):,} image_labels.")
    outside = next((label for label in labels if not (isinstance(label, int) and 0 <= label < len(names))), None)
    if outside is None:
        return [
            Entry(f"entry {number}", str(image), str(names[label]))
            for number, (image, label) in enumerate(zip(images, labels, strict=True), start=1)
        ]
    # CloserLook's lists name all classes of the data set in label_names, and number those.
    raise ValueError(f"{path} has the label {outside!r}, but {len(names):,} label_names.")


def read_json(path: Path) -> Any:
    """A JSON file's content.

    Raises:
        ValueError: If it is not there, or no JSON.
    """
    try:
        return json.loads(_opened(path).read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file ({error}).") from error


def _opened(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file {path}.")
    return path
