"""A machine's file keeps the sections that a run leaves out."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import measurements_file


def test_a_section_replaces_itself_and_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "results" / "machine.json"
    measurements_file.merge(path, {"name": "m"}, {"commit": "a"}, "limit", [{"fraction": 0.5, "note": None}])
    measurements_file.merge(path, {"name": "m"}, {"commit": "b"}, "growth", [{"value": 1}, {"value": "fit"}])
    measurements_file.merge(path, {"name": "m"}, {"commit": "c"}, "limit", [{"fraction": 0.25}])
    assert measurements_file.load_all(path.parent) == {
        "machine": {
            "machine": {"name": "m"},
            "sections": {
                "limit": {"run": {"commit": "c"}, "rows": [{"fraction": 0.25}]},
                "growth": {"run": {"commit": "b"}, "rows": [{"value": 1}, {"value": "fit"}]},
            },
        }
    }
    assert [file.name for file in path.parent.iterdir()] == ["machine.json"]


def test_each_row_has_its_line(tmp_path: Path) -> None:
    measurements_file.merge(tmp_path / "m.json", {}, {}, "limit", [{"value": value} for value in range(3)])
    lines = (tmp_path / "m.json").read_text().splitlines()
    assert [line.strip(" ,") for line in lines if "value" in line] == [f'{{"value": {value}}}' for value in range(3)]


@pytest.mark.parametrize("value", [[1], {"a": 1}])
def test_what_is_no_scalar_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="more than scalars"):
        measurements_file.merge(tmp_path / "m.json", {}, {}, "limit", [{"value": value}])
    assert list(tmp_path.iterdir()) == []


def test_what_json_has_no_number_for_is_written_as_a_word(tmp_path: Path) -> None:
    measurements_file.merge(tmp_path / "m.json", {}, {}, "limit", [{"value": float("nan")}])
    assert measurements_file.load(tmp_path / "m.json")["sections"]["limit"]["rows"] == [{"value": "nan"}]
