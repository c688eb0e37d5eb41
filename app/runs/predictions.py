"""predictions.csv: a learner's answer for every query of the test tasks."""

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from app.runs.folder import RunFolder

COLUMNS = ("task_id", "query", "true_class", "predicted_class", "probability")


class PredictionsFile(Callback):
    """Writes each query's true and predicted class by name, with the prediction's probability.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.rows: list[tuple[int, int, str, str, str]] = []

    @property
    def path(self) -> Path:
        return self.run.path / "predictions.csv"

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        names = trainer.datamodule.bank.class_names  # type: ignore[attr-defined]
        probability, predicted = outputs["answers"].cpu().max(-1)  # (T, Q), (T, Q)
        classes, true = outputs["class_id"].tolist(), outputs["query_y"].tolist()
        for task, task_id in enumerate(outputs["task_id"].tolist()):
            for query, label in enumerate(true[task]):
                guess, p = int(predicted[task, query]), float(probability[task, query])
                self.rows.append((task_id, query, names[classes[task][label]], names[classes[task][guess]], f"{p:.4f}"))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(self._part(trainer.global_rank), self.rows)
        trainer.strategy.barrier("predictions")
        if trainer.is_global_zero:
            parts = [self._part(rank) for rank in range(trainer.world_size)]
            rows = [row for part in parts for row in _read(part)]
            self._write(self.path, sorted(rows, key=lambda row: (int(row[0]), int(row[1]))))
            for part in parts:
                part.unlink()
            right = sum(row[2] == row[3] for row in rows) / max(len(rows), 1)
            print(f"{len(rows):,} queries, {right:.2%} right: {self.path}")

    def _part(self, rank: int) -> Path:
        return self.run.path / f"predictions.rank{rank}.part"

    @staticmethod
    def _write(path: Path, rows: list[Any]) -> None:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(rows)


def _read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]
