"""Lists of images and their labels, in the two forms in which few-shot splits are published."""

import csv
import json
from pathlib import Path
from typing import Any

from datamodules.image_files import ClassFiles

COLUMNS = ["filename", "label"]
KEYS = ("label_names", "image_names", "image_labels")


def read_list(path: Path, folders: list[Path]) -> list[ClassFiles]:
    """The classes of one split.

    Args:
        path: A CSV of `filename,label` lines (Ravi and Larochelle), or a JSON file of `label_names`, `image_names` and
            `image_labels` (Chen et al., CloserLookFewShot).
        folders: Where file names are looked for, in this order, unless they are absolute.

    Returns:
        The classes by name, the files of each in the list's order.

    Raises:
        ValueError: If the list is not there or of another form, or its first file is in none of the folders.
    """
    pairs = _json_pairs(path) if path.suffix.lower() == ".json" else _csv_pairs(path)
    if not pairs:
        raise ValueError(f"{path} lists no image.")
    base = _folder_of(pairs[0][0], folders, path)
    classes: dict[str, list[Path]] = {}
    for name, label in pairs:
        classes.setdefault(label, []).append(base / name)
    return [ClassFiles(label, tuple(classes[label])) for label in sorted(classes)]


def _folder_of(name: str, folders: list[Path], path: Path) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder
    places = ", ".join(str(folder) for folder in folders)
    raise ValueError(f"the first image of {path}, {name}, is not in {places}.")


def _csv_pairs(path: Path) -> list[tuple[str, str]]:
    try:
        with _opened(path).open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8 ({error}): save it as one.") from error
    if not rows or [cell.strip() for cell in rows[0]] != COLUMNS:
        raise ValueError(f"{path} does not begin with the line {','.join(COLUMNS)}.")
    for number, row in enumerate(rows[1:], start=2):
        if row and len(row) != 2:
            raise ValueError(f"{path}, line {number}, is not a file name and a label: {','.join(row)[:80]!r}.")
    return [(row[0].strip(), row[1].strip()) for row in rows[1:] if row]


def _json_pairs(path: Path) -> list[tuple[str, str]]:
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in KEYS):
        raise ValueError(f"{path} does not hold the lists {', '.join(KEYS)}.")
    names, images, labels = (content[key] for key in KEYS)
    if len(images) != len(labels):
        raise ValueError(f"{path} has {len(images):,} image_names, but {len(labels):,} image_labels.")
    outside = next((label for label in labels if not (isinstance(label, int) and 0 <= label < len(names))), None)
    if outside is None:
        return [(str(image), str(names[label])) for image, label in zip(images, labels, strict=True)]
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
