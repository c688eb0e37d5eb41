"""The pages of results say what the files say, and nothing else."""

from pathlib import Path

from reproduction import record_files
from reproduction.experiments import EXPERIMENTS, Experiment
from reproduction.messages import beside_seed
from reproduction.pages import page, pages, summary
from reproduction.record import Result
from reproduction.record_files import RESULTS
from reproduction.shipped import ROOT, common_deviations, shipped_hash
from reproduction.tables import progress


def record(accuracy: float, seed: int = 0, asked: int = 60000, **other: object) -> dict[str, object]:
    return {
        "seed": seed,
        "accuracy": accuracy,
        "ci95": 0.005,
        "transductive": True,
        "n_tasks": 600,
        "iterations": asked,
        "iterations_asked": asked,
        "iterations_of_protocol": 60000,
        "tested_iteration": asked,
        "validation": [[500, 0.9], [2000, 0.97], [12000, 0.96]],
        "wall_time": 600.0,
        "tasks_per_second": 70.0,
        "device": "cpu",
        "precision": "32-true",
        "versions": {"torch": "2.11.0"},
        "commit": "0123456789abcdef-dirty",
        "trained_by": [{"commit": "fedcba987654321", "device": "cpu"}],
        "jobs": 1,
        "configuration": "abc",
        "command": f"make reproduce EXPERIMENT=x SEED={seed}",
        "date": "2026-01-01",
    } | other


def put(experiment: Experiment, result: Result, folder: Path) -> None:
    """Leaves a record that was made by the experiment's present settings, if it does not say otherwise."""
    record_files.add(experiment, {"shipped_configuration": shipped_hash(experiment)} | result, folder)


def lines_with(text: str, *words: str) -> list[str]:
    return [line for line in text.splitlines() if all(word in line for word in words)]


def test_without_files_nothing_was_run(tmp_path: Path) -> None:
    text = page(tmp_path)
    figures = sum(len(experiment.published) for experiment in EXPERIMENTS.values())
    assert len(lines_with(text, "ductive | ", "| not run |")) == figures
    assert "Not run." in text


def test_a_result_of_one_task_stands_without_an_interval(tmp_path: Path) -> None:
    experiment = EXPERIMENTS["maml_omniglot_5w1s"]
    put(experiment, record(0.985, ci95=None, n_tasks=1), tmp_path)
    (line,) = lines_with(page(tmp_path), "| transductive | 98.70 +- 0.40 | 98.50 |")
    assert "inside" in line
    (other,) = record_files.load(experiment, tmp_path)
    assert beside_seed(record(0.975, 1), other) == "seed 0 has 98.50 % (-1.00)"


def test_the_page_says_which_drawing_the_test_tasks_come_from(tmp_path: Path) -> None:
    experiment = EXPERIMENTS["maml_omniglot_5w1s"]
    put(experiment, record(0.985, 0), tmp_path)  # as results were written that did not say it
    put(experiment, record(0.985, 1, draws=2), tmp_path)
    first, second = lines_with(page(tmp_path), "make reproduce EXPERIMENT=x")
    assert "| 1 | abc |" in first
    assert "| 2 | abc |" in second
    others = [beside_seed(record(0.984, 2, draws=2), other) for other in record_files.load(experiment, tmp_path)]
    assert others == [
        "seed 0 has 98.50 +- 0.50 %, on the test tasks of drawing 1: this one lies within its interval (-0.10)",
        "seed 1 has 98.50 +- 0.50 %: this one lies within its interval (-0.10)",
    ]


def test_a_figure_stands_beside_the_papers(tmp_path: Path) -> None:
    experiment = EXPERIMENTS["maml_omniglot_5w1s"]
    for seed, accuracy in enumerate((0.985, 0.987, 0.983)):
        put(experiment, record(accuracy, seed, ci95=0.005 + seed / 1000), tmp_path)
    put(experiment, record(0.5, asked=600), tmp_path)  # shorter: only among how each was made
    text = page(tmp_path)
    assert lines_with(text, "98.70 +- 0.40") == [
        "| 5-way 1-shot | transductive | 98.70 +- 0.40 | 98.50 +- 0.70 | -0.20 | inside | 60,000 | "
        "0: 98.50, 1: 98.70, 2: 98.30 | 600 |"
    ]
    assert len(lines_with(text, "`make reproduce EXPERIMENT=x")) == 4
    assert "| fedcba9876 on cpu | 0123456789 (changed) on cpu, torch 2.11.0 |" in text


def test_a_part_of_the_iterations_is_marked(tmp_path: Path) -> None:
    put(EXPERIMENTS["maml_omniglot_5w1s"], record(0.96, asked=12000), tmp_path)
    (line,) = lines_with(page(tmp_path), "98.70 +- 0.40")
    assert "| -2.70 | below | **12,000 of 60,000** (20%) |" in line


def test_a_training_that_ended_by_itself_is_no_part(tmp_path: Path) -> None:
    result = record(0.984, transductive=False, iterations=26000)
    put(EXPERIMENTS["protonet_omniglot_5w1s"], result, tmp_path)
    (line,) = lines_with(page(tmp_path), "| 98.80 |")
    assert "98.40 +- 0.50 | -0.40 | inside | 26,000, then no better |" in line


def test_a_result_by_earlier_settings_is_in_no_table(tmp_path: Path) -> None:
    put(EXPERIMENTS["maml_omniglot_5w1s"], record(0.985, shipped_configuration="0" * 12), tmp_path)
    text = page(tmp_path)
    assert "| 98.70 +- 0.40 | not run |" in text
    assert "| abc (by earlier settings: not in the tables) |" in text


def test_both_evaluations_of_reptile_are_compared(tmp_path: Path) -> None:
    both = record(0.953, transductive=False) | {"accuracy_transductive": 0.98, "ci95_transductive": 0.001}
    put(EXPERIMENTS["reptile_omniglot_5w1s"], both, tmp_path)
    text = page(tmp_path)
    assert "| inductive | 95.39 +- 0.09 | 95.30 +- 0.50 | -0.09 | inside |" in text
    assert "| transductive | 97.68 +- 0.04 | 98.00 +- 0.10 | +0.32 | above |" in text


def test_deviations_come_from_the_configurations(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert (
        "- The Vinyals split (1028 / 172 / 423 characters) in place of the paper's own draw of 1,100 / 100 / 423.\n"
        in text
    )
    assert "200 validation tasks" in text


def test_deviations_that_hold_for_all_are_said_once_before_the_methods(tmp_path: Path) -> None:
    text, common = page(tmp_path), common_deviations().splitlines()
    assert len(common) > 3
    assert [text.partition("## Omniglot")[0].count(f"{line}\n") for line in common] == [1] * len(common)
    assert [text.count(line) for line in common] == [1] * len(common)
    pointers = lines_with(text, "- Those that hold for all (docs/reproduction.md).")
    assert len(pointers) == text.count("Otherwise than in the paper:")


def test_protonet_has_other_characters_beside(tmp_path: Path) -> None:
    for name, accuracy in (("", 0.98), ("_lake", 0.97), ("_within_alphabet", 0.9)):
        experiment = EXPERIMENTS[f"protonet_omniglot{name}_20w1s"]
        put(experiment, record(accuracy, transductive=False), tmp_path)
    (line,) = lines_with(page(tmp_path), "after 60,000")
    assert line == (
        "| 20-way 1-shot | 98.00 +- 0.50 after 60,000 | 97.00 +- 0.50 after 60,000 | 90.00 +- 0.50 after 60,000 |"
    )


def test_progress_is_the_best_so_far(tmp_path: Path) -> None:
    put(EXPERIMENTS["maml_omniglot_5w1s"], record(0.96, asked=12000), tmp_path)
    (line,) = lines_with(progress(tmp_path), "maml_omniglot_5w1s")
    assert line == "| maml_omniglot_5w1s | 90.0 | 90.0 | 97.0 | 97.0 | 97.0 | 97.0 |  |  |  |"


def test_the_summary_tells_a_part_from_the_whole(tmp_path: Path) -> None:
    put(EXPERIMENTS["maml_omniglot_5w1s"], record(0.96, asked=12000), tmp_path)
    put(EXPERIMENTS["maml_omniglot_20w1s"], record(0.958), tmp_path)
    (line,) = lines_with(summary(tmp_path), "| MAML |")
    assert line == "| MAML | transductive | **96.00**\\* (98.7) | - (99.9) | **95.80** (95.8) | - (98.9) |"


def test_the_pages_are_those_of_the_files() -> None:
    """After `make reproduce`: `make results`."""
    for path, text in pages(ROOT / RESULTS).items():
        assert (ROOT / path).read_text("utf-8") == text
