"""metrics.csv: every logged value, one row for each step, in a file that any spreadsheet opens."""

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from app.files.atomic_file import write_atomically


class MetricsFile(Logger):
    """Appends rows to a CSV file; a resumed run continues the file it finds, without what it does again.

    Lightning's CSVLogger deletes the file of the run it resumes.

    Args:
        path: The file, in the run's folder.
        trained: Outer steps of the state that the run goes on from.
    """

    def __init__(self, path: Path, trained: int = 0) -> None:
        super().__init__()
        self.path, self.trained = path, trained
        self._columns: list[str] = []
        self._begun = False

    @property
    def name(self) -> str:
        return self.path.parent.parent.name

    @property
    def version(self) -> str:
        return self.path.parent.name

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @property
    def log_dir(self) -> str:
        return str(self.path.parent)

    @property
    @rank_zero_experiment
    def experiment(self) -> None:
        return None

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration is in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Adds one row.

        Args:
            metrics: Name -> value.
            step: The outer steps before that of the row, as a Trainer counts for its loggers.

        Raises:
            OSError: If it cannot be written; names the file.
        """
        row = {"step": 0 if step is None else steps_taken(step), **metrics}
        row.pop("epoch", None)  # the task stream has none
        if not self._begun and self.path.is_file():
            self._columns, rows = self._read()
            self._write([old for old in rows if int(old["step"]) <= self.trained and not _is_of_a_test(old)])
        self._begun = True
        again = row["step"] <= self.trained  # logged, perhaps, after the state was saved
        if again or not set(self._columns) >= row.keys():
            rows = self._read()[1] if self._columns else []
            kept = [old for old in rows if not (again and int(old["step"]) == row["step"] and _share_a_value(old, row))]
            self._columns += [name for name in row if name not in self._columns]
            self._write([*kept, row])
            return
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        except OSError as error:
            raise OSError(f"cannot write {self.path} ({error.strerror}).") from error

    def _read(self) -> tuple[list[str], list[dict[str, Any]]]:
        """The columns and the whole rows: a killed process may have left half of one at the end."""
        with self.path.open(newline="") as file:
            lines = file.read().splitlines(keepends=True)
        reader = csv.DictReader(line for line in lines if line.endswith("\n"))
        rows = [row for row in reader if row["step"] and None not in row and None not in row.values()]
        return list(reader.fieldnames or []), rows

    def _write(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue())


def steps_taken(step: int) -> int:
    """A row's number on the axis that checkpoints, pictures, metrics.csv and W&B share: the outer steps taken.

    Args:
        step: What a Trainer numbers the row by, from 0.
    """
    return step + 1


def _is_of_a_test(row: dict[str, Any]) -> bool:
    """Tells whether a row is of a test, whose result is over where the training goes on."""
    return any(value for name, value in row.items() if name.startswith("test/"))


def _share_a_value(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return any(row.get(name) for name in other if name != "step")
