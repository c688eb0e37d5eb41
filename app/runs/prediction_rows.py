"""predictions.csv of any command: what the ranks predicted is gathered, and rank 0 writes it."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from pytorch_lightning import Trainer

from app.files.atomic_file import write_atomically

PREDICTIONS = "predictions.csv"

Number = TypeVar("Number", int, tuple[int, int])
Predicted = TypeVar("Predicted")


def gather_predictions(trainer: Trainer, own: dict[Number, Predicted]) -> dict[Number, Predicted] | None:
    """Gathers on rank 0 what every rank predicted; every rank of the Trainer calls it.

    Args:
        trainer: The Trainer that has predicted.
        own: What this rank predicted, by a number that orders it; a number that two ranks have counts once.

    Returns:
        What all ranks predicted, sorted by number, on rank 0; None on the others.
    """
    of_ranks: list[dict[Number, Predicted]] = [own]
    if trainer.world_size > 1:
        of_ranks = [{} for _ in range(trainer.world_size)]
        torch.distributed.gather_object(own, of_ranks if trainer.is_global_zero else None)
    if not trainer.is_global_zero:
        return None
    return dict(sorted((pair for of_rank in of_ranks for pair in of_rank.items()), key=lambda pair: pair[0]))


def write_predictions(folder: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Writes predictions.csv atomically; names that are not UTF-8 keep their bytes.

    Args:
        folder: The run's folder.
        columns: The first line; two columns may have the same name.
        rows: A field for each column.

    Returns:
        The file.

    Raises:
        OSError: If the disk is full or fails; the file that was there before is still there.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomically(folder / PREDICTIONS, text.getvalue())
    return folder / PREDICTIONS
