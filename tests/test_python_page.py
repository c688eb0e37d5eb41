"""The page for programs, docs/python.md: every line of its examples runs, in their order."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from tests.datamodules.image_makers import save_classes

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_its_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    save_classes(tmp_path / "my_classes", {"ant": 2, "bee": 3, "cow": 1})
    save_classes(tmp_path / "my_images", {".": 4})
    text, names = PAGE.read_text("utf-8"), dict[str, Any](__name__="page")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= 10
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        code = compile("\n" * line + block[1], str(PAGE), "exec")  # so that an error names the page's line
        exec(code, names)
    assert names["scores"]["test/accuracy"] > 0.2
    assert names["own"].backbone.feature_dim == 128
    assert names["answers"].shape == (4, 3)
    assert names["probabilities"].shape == (1, 5, 5)
    printed = capsys.readouterr().out
    assert "pass it again, as in load_from_checkpoint(path, backbone=...)." in printed
    assert (tmp_path / "logs").is_dir()
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
