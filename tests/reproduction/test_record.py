"""How a figure stands beside a paper's, and what the experiments' files keep."""

import json
from multiprocessing import get_context
from pathlib import Path

import pytest

from app.process.errors import UsageError
from app.runs.folder import RunFolder
from reproduction import record_files
from reproduction.experiments import EXPERIMENTS, Published
from reproduction.record import configuration_hash, is_whole, score_of, verdict
from reproduction.training import Training

EXPERIMENT = EXPERIMENTS["maml_omniglot_5w1s"]


def record(seed: int = 0, asked: int = 60000, accuracy: float = 0.98) -> dict[str, object]:
    known = {"seed": seed, "iterations_asked": asked, "iterations_of_protocol": 60000, "accuracy": accuracy}
    return dict.fromkeys(record_files.NEEDED) | known


@pytest.mark.parametrize(
    ("accuracy", "ci95", "paper", "expected"),
    [
        (98.3, 0.1, Published(98.7, 0.4, "transductive"), "inside"),
        (98.29, 5.0, Published(98.7, 0.4, "transductive"), "below"),
        (99.11, 0.1, Published(98.7, 0.4, "transductive"), "above"),
        (98.5, 0.3, Published(98.8, None, "inductive"), "inside"),
        (98.5, 0.2, Published(98.8, None, "inductive"), "below"),
        (99.5, 0.2, Published(98.8, None, "inductive"), "above"),
    ],
)
def test_a_verdict_is_by_the_papers_interval_or_else_by_ours(accuracy, ci95, paper, expected) -> None:
    assert verdict((accuracy, ci95), paper) == expected


def test_a_score_is_of_the_evaluation_that_is_asked_for() -> None:
    both = {"accuracy_inductive": 0.9, "ci95_inductive": 0.01, "accuracy": 0.95, "ci95": 0.02, "transductive": True}
    assert score_of(both, "inductive") == (90.0, 1.0)
    assert score_of(both, "transductive") == (95.0, 2.0)
    alone = {"accuracy": 0.95, "ci95": 0.02, "transductive": False}
    assert score_of(alone, "inductive") == (95.0, 2.0)
    assert score_of(alone, "transductive") is None


def test_a_training_that_stopped_by_itself_is_whole() -> None:
    assert is_whole(record() | {"iterations": 26000})
    assert is_whole(record(asked=30000) | {"iterations": 26000})
    assert not is_whole(record(asked=6000) | {"iterations": 6000})


def test_a_record_takes_the_place_of_its_like_alone(tmp_path: Path) -> None:
    for seed, asked in ((1, 600), (0, 600), (0, 60000)):
        path = record_files.add(EXPERIMENT, record(seed, asked), tmp_path)
    record_files.add(EXPERIMENT, record(0, 600, accuracy=0.5), tmp_path)
    runs = record_files.load(EXPERIMENT, tmp_path)
    assert [(run["iterations_asked"], run["seed"], run["accuracy"]) for run in runs] == [
        (60000, 0, 0.98),
        (600, 0, 0.5),
        (600, 1, 0.98),
    ]
    assert path == tmp_path / "maml_omniglot_5w1s.json"
    assert json.loads(path.read_text())["experiment"] == "maml_omniglot_5w1s"


def add_many(folder: Path, first: int) -> None:
    for seed in range(first, first + 20):
        record_files.add(EXPERIMENT, record(seed), folder)


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [get_context("fork").Process(target=add_many, args=(tmp_path, first)) for first in (0, 20, 40)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [run["seed"] for run in record_files.load(EXPERIMENT, tmp_path)] == list(range(60))


@pytest.mark.parametrize("content", ["", "[]", '{"runs": 3}', '{"runs": [3]}', '{"runs": [{"seed": 0}]}', "{"])
def test_a_file_of_something_else_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "maml_omniglot_5w1s.json").write_text(content)
    with pytest.raises(UsageError, match=r"maml_omniglot_5w1s\.json is not what `make reproduce` writes"):
        record_files.load(EXPERIMENT, tmp_path)


def test_more_iterations_than_there_are_is_refused() -> None:
    with pytest.raises(UsageError, match="takes 60,000 iterations: ITERATIONS must not be above, got 60,001"):
        Training.of(EXPERIMENT, 0, 60001)
    assert Training.of(EXPERIMENT, 0, 60000) == Training.of(EXPERIMENT, 0, None)


def run_with(folder: Path, config: str) -> RunFolder:
    folder.mkdir()
    (folder / "config.yaml").write_text(config)
    return RunFolder(folder)


def test_a_configurations_hash_is_of_the_protocol_alone(tmp_path: Path) -> None:
    config = (
        "seed_everything: {seed}\n"
        "trainer: {{devices: {devices}, max_steps: {steps}}}\n"
        "data: {{init_args: {{root: {root}, seed: {seed}}}}}\n"
    )
    here = run_with(tmp_path / "a", config.format(seed=0, devices=1, steps=9, root="x"))
    there = run_with(tmp_path / "b", config.format(seed=1, devices=4, steps=9, root="y"))
    longer = run_with(tmp_path / "c", config.format(seed=0, devices=1, steps=10, root="x"))
    assert configuration_hash(here.config) == configuration_hash(there.config)
    assert (
        len(
            {
                configuration_hash(here.config),
                configuration_hash(longer.config),
                configuration_hash(here.config, there.config),
            }
        )
        == 3
    )
