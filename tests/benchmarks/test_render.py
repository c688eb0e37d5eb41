"""The README's tables and plot come from the files alone, and what people wrote stays."""

from pathlib import Path

import pytest

from benchmarks import measurements_file, render
from benchmarks.__main__ import SECTIONS
from benchmarks.table import Row, shown

WRITTEN = f"# Benchmarks\n\nby hand\n\n{render.START}\nold\n{render.END}\n\nby hand too\n"


def step_row(contestant: str, n_tasks: int, speed: float | None, **more: str | float | None) -> Row:
    row: Row = {"case": "5w1s", "n_tasks": n_tasks, "contestant": contestant, "tasks_per_second": speed}
    return row | {"gradient_difference": 1e-15, "chosen": None, "note": None} | more


def fill(folder: Path) -> None:
    steps = [step_row("learn2learn", n, 50.0, ratio_to_learn2learn=1.0) for n in (1, 4)]
    steps.append(step_row("quickstudy auto", 1, 45.0, ratio_to_learn2learn=0.9, chosen="loop"))
    steps.append(step_row("quickstudy auto", 4, None, note="skipped: too slow", gradient_difference=None))
    growth: list[Row] = [
        {"varied": "n_tasks", "value": 4, "seconds": 0.25},
        {"varied": "n_tasks", "time_exponent": 1.5},
    ]
    for section, rows in (("growth", growth), ("outer_step", steps)):
        measurements_file.merge(folder / "cpu-2.json", {"name": "cpu-2", "cores": 2}, {"commit": "abc"}, section, rows)


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    fill(tmp_path / "results")
    (tmp_path / "README.md").write_text(WRITTEN)
    return tmp_path / "README.md"


def test_tables_and_plot_of_a_machine(readme: Path) -> None:
    written = render.render(readme.parent / "results", readme)
    assert [path.name for path in written] == ["README.md", "outer_step_cpu-2.png"]
    assert 5_000 < written[1].stat().st_size < 200_000
    text = readme.read_text()
    assert "| learn2learn | 50.0 (1.00x) | 50.0 (1.00x) | 1.0e-15 |" in text
    assert "| quickstudy auto | 45.0 (0.90x) loop | skipped | 1.0e-15 |" in text
    assert "| varied | value | seconds |\n| --- | ---: | ---: |\n| n_tasks | 4 | 0.25 |" in text
    assert "| n_tasks | 1.50 |" in text
    assert text.index("### Outer step") < text.index("### Growth")


def test_what_people_wrote_stays_and_old_results_go(readme: Path) -> None:
    for _ in range(2):
        render.render(readme.parent / "results", readme)
    text = readme.read_text()
    assert text.startswith("# Benchmarks\n\nby hand\n")
    assert text.endswith("\n\nby hand too\n")
    assert "old" not in text
    assert text.count("## cpu-2") == 1


def test_rows_of_a_section_that_is_measured_no_longer_are_left_out(readme: Path) -> None:
    file = readme.parent / "results" / "cpu-2.json"
    render.render(file.parent, readme)
    text = readme.read_text()
    measurements_file.merge(file, {"name": "cpu-2", "cores": 2}, {"commit": "abc"}, "variants", [{"variant": "vmap"}])
    render.render(file.parent, readme)
    assert readme.read_text() == text


def test_every_section_has_its_title() -> None:
    assert set(render.TITLES) == set(SECTIONS)


def test_a_readme_without_its_markers_is_refused(readme: Path) -> None:
    readme.write_text("# Benchmarks\n")
    with pytest.raises(ValueError, match=r"README.md must hold"):
        render.render(readme.parent / "results", readme)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "yes"),
        (512, "512"),
        ("vmap", "vmap"),
        (12345.6, "12,346"),
        (119.4, "119"),
        (22.94, "22.9"),
        (1.0, "1.00"),
        (0.0171, "0.0171"),
        (4e-16, "4.0e-16"),
        (0.0, "0"),
    ],
)
def test_a_figure_is_shown_to_three_digits(value: str | float | None, text: str) -> None:
    assert shown(value) == text
