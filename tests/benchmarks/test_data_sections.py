"""The sections on data: what peers are given, what they make of it, and what happens without data or on a failure."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import end_to_end, episodes
from benchmarks.end_to_end import OURS, REFERENCE, Contestant
from benchmarks.omniglot_images import split_images
from benchmarks.options import Options
from benchmarks.peers import easyfsl_tasks, learn2learn_tasks
from benchmarks.timing import Timing
from tests.datamodules.numbered_images import SPLIT_CLASSES, image_number, make_data

CPU = torch.device("cpu")


@pytest.mark.parametrize("section", [episodes, end_to_end])
def test_without_data_a_section_says_so(section: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert section.run(Options(CPU, 1.0)) == []
    assert "--data" in capsys.readouterr().out


def test_peers_get_the_images_of_the_split() -> None:
    data: Any = make_data()
    images, labels = split_images(data, "train")
    numbers = image_number(images.unsqueeze(0)).squeeze(0)
    for label, c in enumerate(SPLIT_CLASSES["train"]):
        start = int(data.bank.class_start[c])
        assert numbers[labels == label].tolist() == list(range(start, start + int(data.bank.class_size[c])))


def test_learn2learn_makes_tasks_of_them() -> None:
    pytest.importorskip("learn2learn")
    images, labels = split_images(make_data(), "train")
    tasks: Any = learn2learn_tasks.make_batches(images, labels, 3, 1, 2, 4, CPU)()
    assert len(tasks) == 4
    for x, y in tasks:
        assert x.shape == (9, 1, 2, 2)
        assert sorted(y.tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_easyfsl_makes_tasks_of_them() -> None:
    pytest.importorskip("easyfsl")
    images, labels = split_images(make_data(), "train")
    tasks: Any = easyfsl_tasks.make_batches(images, labels, 3, 1, 2, 4, CPU)()
    assert len(tasks) == 4
    for support_x, support_y, query_x, query_y, _ in tasks:
        assert support_x.shape == (3, 1, 2, 2)
        assert query_x.shape == (6, 1, 2, 2)
        assert sorted(support_y.tolist()) == [0, 1, 2]
        assert sorted(query_y.tolist()) == [0, 0, 1, 1, 2, 2]


def test_a_round_is_scaled_to_one_batch() -> None:
    calls: list[int] = []
    call, count = episodes.repeated(lambda: calls.append(0), CPU)
    calls.clear()
    call()
    assert len(calls) == count > 1
    assert episodes.scaled(Timing(6.0, 4.0, 10.0, 3), 2) == Timing(3.0, 2.0, 5.0, 3)


def test_a_program_that_fails_leaves_a_note_and_the_other_its_figures() -> None:
    def program(code: str) -> Contestant:
        return Contestant(lambda folder: [sys.executable, "-c", code], lambda folder, printed: float(printed))

    entered = {OURS: program("print(0.5)"), REFERENCE: program("raise ValueError('no such data')")}
    for contestant in entered.values():
        contestant.run()
    assert end_to_end.row(REFERENCE, entered)["note"] == "failed: ValueError: no such data"
    figures = end_to_end.row(OURS, entered)
    assert figures["test_accuracy"] == 0.5
    assert figures["ratio_to_learn2learn"] is None
    entered[REFERENCE].seconds, entered[OURS].seconds = [6.0], [1.0, 2.0, 9.0]
    assert end_to_end.row(OURS, entered)["ratio_to_learn2learn"] == 3.0


def test_the_example_loops_accuracy_is_read_from_what_it_prints() -> None:
    assert end_to_end.peer_accuracy(Path(), "a bar\ntest_accuracy 0.9125\n") == 0.9125
