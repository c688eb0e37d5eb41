"""The one writer of predictions.csv: rows of all ranks, in one file that is written atomically."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from app.runs.folder import RunFolder
from app.runs.prediction_rows import gather_predictions, write_predictions
from app.runs.predictions import PredictionsFile
from datamodules.objective import CLASSIFICATION
from tests.rank_group import RankGroup


def trainer_of(rank: int, world_size: int) -> Trainer:
    return cast(Trainer, SimpleNamespace(world_size=world_size, is_global_zero=rank == 0))


def gather_on_this_rank(numbers: list[list[int]]) -> dict[int, str] | None:
    rank = torch.distributed.get_rank()
    own = {number: f"{number} of rank {rank}" for number in numbers[rank]}
    return gather_predictions(trainer_of(rank, torch.distributed.get_world_size()), own)


@pytest.mark.parametrize("numbers", [[[4, 0], [3, 1]], [[], [2, 1]], [[7], []], [[], []]])
def test_rank_0_gets_what_all_predicted_in_order(rank_pair: RankGroup, numbers: list[list[int]]) -> None:
    first, second = rank_pair(gather_on_this_rank, numbers)
    of_rank = {number: rank for rank, own in enumerate(numbers) for number in own}
    assert list(first.items()) == [(number, f"{number} of rank {of_rank[number]}") for number in sorted(of_rank)]
    assert second is None


def test_queries_are_sorted_as_numbers() -> None:
    own = {(10, 0): "c", (2, 11): "b", (2, 9): "a"}
    gathered = gather_predictions(trainer_of(0, 1), own)
    assert gathered is not None
    assert list(gathered.values()) == ["a", "b", "c"]


def test_names_keep_their_bytes(tmp_path: Path) -> None:
    path = write_predictions(tmp_path, ("file", 'p("ж")', "file"), [(os.fsdecode(b"caf\xe9.png"), 1, "a, b")])
    assert path.name == "predictions.csv"
    assert path.read_bytes() == 'file,"p(""ж"")",file\r\n'.encode() + b'caf\xe9.png,1,"a, b"\r\n'


def test_a_disk_that_is_full_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "predictions.csv").write_text("what was there before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    callback = PredictionsFile(RunFolder(tmp_path), CLASSIFICATION)
    learner: Any = LightningModule()
    with pytest.raises(OSError, match=r"cannot write .*predictions\.csv \(No space left on device\)"):
        callback.on_predict_end(trainer_of(0, 1), learner)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]
    assert (tmp_path / "predictions.csv").read_text() == "what was there before"
