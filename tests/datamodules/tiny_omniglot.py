"""A tiny Omniglot: twelve characters of five alphabets, drawn here, written as folders or zips."""

import io
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.sets.omniglot.omniglot import Omniglot
from datamodules.sets.omniglot.source import PARTS

ALPHABETS = {"images_background": {"Amber": 3, "Blue": 2, "Cyan": 2}, "images_evaluation": {"Dun": 3, "Ebony": 2}}
CHARACTERS = {
    part: [f"{alphabet}/character{n:02}" for alphabet, size in alphabets.items() for n in range(1, size + 1)]
    for part, alphabets in ALPHABETS.items()
}
ALL = sorted(CHARACTERS["images_background"] + CHARACTERS["images_evaluation"])
VINYALS = {"train": ALL[0::3], "val": ALL[1::3], "test": ALL[2::3]}
LAKE = {"train": ALL[:5], "val": ALL[5:7], "test": CHARACTERS["images_evaluation"]}


def png(character: str, drawer: int) -> bytes:
    """A one-bit 105x105 drawing, black on white, that tells its character and drawer apart and has no symmetry."""
    pixels = np.ones((105, 105), bool)
    pixels[10:14, 10:90] = False
    pixels[10:60, 10:14] = False
    i = ALL.index(character)
    pixels[20 + 5 * i : 24 + 5 * i, 30:50] = False
    pixels[80:84, 20 + 3 * drawer : 23 + 3 * drawer] = False
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@cache
def originals() -> dict[str, dict[str, bytes]]:
    """Part -> path under the part -> PNG."""
    return {
        part: {f"{name}/{ALL.index(name):04}_{d:02}.png": png(name, d) for name in names for d in range(1, 21)}
        for part, names in CHARACTERS.items()
    }


def write_folders(root: Path, parts: Iterable[str] = PARTS) -> None:
    for part in parts:
        for path, data in originals()[part].items():
            file = root / part / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


def write_zips(root: Path, parts: Iterable[str] = PARTS, changed: dict[str, bytes] | None = None) -> None:
    """Writes the two zips; `changed` replaces drawings by their path."""
    root.mkdir(parents=True, exist_ok=True)
    for part in parts:
        with zipfile.ZipFile(root / f"{part}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{part}/", "")
            for path, data in {**originals()[part], **(changed or {})}.items():
                archive.writestr(f"{part}/{path}", data)


def module(root: Path, n_way: int = 2, **own) -> Omniglot:
    return Omniglot(n_way=n_way, root=str(root), download=own.pop("download", False), **own)


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message
