"""What the audit of an image finds, and that it finds it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import image_audit


def test_findings_are_one_line_each(tmp_path, monkeypatch):
    (tmp_path / "gcc").write_text("")
    (tmp_path / "gcc").chmod(0o755)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".netrc").write_text("")
    (tmp_path / "stdio.h").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "x")
    monkeypatch.setattr(image_audit, "OWN", (str(tmp_path / "home"),))
    monkeypatch.setattr(image_audit, "HEADERS", (str(tmp_path / "stdio.h"),))
    found = image_audit.findings()
    for part in (f"gcc is in {tmp_path}", "stdio.h is there", ".netrc looks like a secret", "variable WANDB_API_KEY"):
        assert len([line for line in found if part in line]) == 1, part


@pytest.mark.parametrize("name", [".env", ".netrc", "server.pem", "id_rsa"])
def test_a_file_with_a_secret_is_known_by_its_name(name):
    assert image_audit.is_secret(Path("/app") / name)


@pytest.mark.parametrize("name", ["train.py", "keys.yaml", "environment"])
def test_another_file_is_not(name):
    assert not image_audit.is_secret(Path("/app") / name)


def test_sizes_are_those_on_disk(tmp_path):
    (tmp_path / "one").write_bytes(os.urandom(3 * 10**6))
    os.link(tmp_path / "one", tmp_path / "the same")
    assert image_audit.megabytes(tmp_path) == 3


def test_runs_as_one_text_without_the_rest_of_the_program(tmp_path):
    # As image_test.py runs it: from -c, in a folder that is not ours. Without the walks, which can take long.
    source = Path(image_audit.__file__).read_text().replace("parts()}", "{}}").replace('"/opt"', '"/nothing"')
    source = source.replace(str(image_audit.OWN).replace("'", '"'), "()")
    assert "OWN = ()" in source
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "findings" in json.loads(done.stdout)
