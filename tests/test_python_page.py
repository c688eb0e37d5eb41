"""The pages for programs, docs/python.md and docs/architecture.md: every line of their examples runs, in order."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from tests.datamodules.image_makers import save_classes

PAGES = Path(__file__).parents[1] / "docs"
NEW_FILE = "modules/methods/nearest_example.py"  # which the page tells its reader to write
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(page: Path) -> tuple[int, dict[str, Any]]:
    """Runs a page's examples; their number, and the names that they leave."""
    text, names = page.read_text("utf-8"), dict[str, Any](__name__="page")
    blocks = list(BLOCK.finditer(text))
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        code = compile("\n" * line + block[1], str(page), "exec")  # so that an error names the page's line
        exec(code, names)
    return len(blocks), names


def test_the_examples_of_the_page_for_programs_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    save_classes(tmp_path / "my_classes", {"ant": 2, "bee": 3, "cow": 1})
    save_classes(tmp_path / "my_images", {".": 4})
    n_blocks, names = run(PAGES / "python.md")
    assert n_blocks >= 10
    assert names["scores"]["test/accuracy"] > 0.2
    assert names["own"].backbone.feature_dim == 128
    assert names["answers"].shape == (4, 3)
    assert names["probabilities"].shape == (1, 5, 5)
    printed = capsys.readouterr().out
    assert "pass it again, as in load_from_checkpoint(path, backbone=...)." in printed
    assert (tmp_path / "logs").is_dir()
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_the_learner_of_the_page_on_architecture_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    n_blocks, names = run(PAGES / "architecture.md")
    assert n_blocks == 2
    assert names["scores"]["test/accuracy"] > 0.4  # of five classes


def test_the_files_that_the_page_on_architecture_names_are_there() -> None:
    text = (PAGES / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"`((?:app|datamodules|modules|tests)/[\w/]+\.py)`", text)) - {NEW_FILE}
    assert len(named) > 12
    assert [name for name in sorted(named) if not (PAGES.parent / name).is_file()] == []
