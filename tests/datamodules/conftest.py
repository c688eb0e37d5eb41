"""Fixtures of the Omniglot tests."""

import hashlib
import tempfile
from pathlib import Path

import pytest

from datamodules.sets.omniglot import omniglot
from datamodules.sets.omniglot.source import PARTS
from tests.datamodules.tiny_omniglot import LAKE, VINYALS, write_folders, write_zips


@pytest.fixture
def small_omniglot(tmp_path, monkeypatch):
    """Twelve characters instead of 1,623, and no cache but the test's own."""
    for folder, lists in (("omniglot_vinyals", VINYALS), ("omniglot_lake", LAKE)):
        (tmp_path / "lists" / folder).mkdir(parents=True)
        for split, names in lists.items():
            (tmp_path / "lists" / folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    monkeypatch.setattr(omniglot, "CLASS_LISTS", tmp_path / "lists")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def folders(tmp_path, small_omniglot) -> Path:
    write_folders(tmp_path / "data" / "omniglot")
    return tmp_path / "data"


@pytest.fixture
def zips(tmp_path, small_omniglot) -> Path:
    write_zips(tmp_path / "zipped")
    return tmp_path / "zipped"


@pytest.fixture
def server(tmp_path, small_omniglot, monkeypatch) -> Path:
    """A folder that stands for the official address."""
    write_zips(tmp_path / "server")
    monkeypatch.setattr(omniglot, "ADDRESS", (tmp_path / "server").as_uri())
    sums = {part: hashlib.md5((tmp_path / "server" / f"{part}.zip").read_bytes()).hexdigest() for part in PARTS}
    monkeypatch.setattr(omniglot, "MD5", sums)
    return tmp_path / "server"
