"""predictions.csv: a learner's answer for every query of the test tasks."""

from collections.abc import Iterator
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from app.runs.folder import RunFolder
from app.runs.prediction_rows import gather_predictions, write_predictions
from app.runs.score_text import score_text
from datamodules.episode import Episode
from datamodules.objective import CLASSIFICATION, REGRESSION, Objective

Row = tuple[Any, ...]  # task_id, query, and what a table's columns say


class ClassRows:
    """Each query's true and predicted class by name, with the prediction's probability."""

    columns: tuple[str, ...] = ("true_class", "predicted_class", "probability")

    def rows(self, data: Any, outputs: Any, batch: Episode) -> Iterator[Row]:
        """A row for each query of T tasks: what `Learner.predict_step` returned for a batch of `data`."""
        names = data.bank.class_names
        probability, predicted = outputs["answers"].cpu().max(-1)  # (T, Q), (T, Q)
        classes, true = outputs["class_id"].tolist(), outputs["query_y"].tolist()
        for task, task_id in enumerate(outputs["task_id"].tolist()):
            for query, label in enumerate(true[task]):
                guess, p = int(predicted[task, query]), float(probability[task, query])
                yield task_id, query, names[classes[task][label]], names[classes[task][guess]], f"{p:.4f}"

    def summary(self, rows: list[Row]) -> str:
        """Tells how many of one row or more are right."""
        return f"{sum(row[2] == row[3] for row in rows) / len(rows):.2%} right"


class ValueRows:
    """Each query's x, true and predicted value; an x of several numbers has them in one field."""

    columns: tuple[str, ...] = ("x", "true_value", "predicted_value")

    def rows(self, data: Any, outputs: Any, batch: Episode) -> Iterator[Row]:
        """A row for each query of T tasks: what `Learner.predict_step` returned for a batch of `data`."""
        x, true = batch.query_x.tolist(), outputs["query_y"].tolist()
        values = outputs["answers"].squeeze(-1).tolist()  # (T, Q)
        for task, task_id in enumerate(outputs["task_id"].tolist()):
            for query, point in enumerate(x[task]):
                shown = " ".join(f"{value:.7g}" for value in point)
                yield task_id, query, shown, f"{true[task][query]:.7g}", f"{values[task][query]:.7g}"

    def summary(self, rows: list[Row]) -> str:
        """The mean squared error of one row or more."""
        error = sum((float(row[3]) - float(row[4])) ** 2 for row in rows) / len(rows)
        return f"mse {score_text(error, REGRESSION)}"


TABLES: dict[str, type[ClassRows | ValueRows]] = {CLASSIFICATION.name: ClassRows, REGRESSION.name: ValueRows}


class PredictionsFile(Callback):
    """Writes a row for each query, with the columns that suit the data's objective.

    Args:
        run: The run's folder.
        objective: What the data ask.
    """

    def __init__(self, run: RunFolder, objective: Objective) -> None:
        self.run = run
        self.table = TABLES[objective.name]()
        self.rows: dict[tuple[int, int], Row] = {}  # of this rank, by task and query

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        rows = self.table.rows(trainer.datamodule, outputs, batch)  # type: ignore[attr-defined]
        self.rows |= {(row[0], row[1]): row for row in rows}

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gathered = gather_predictions(trainer, self.rows)
        if gathered is None:
            return
        rows = list(gathered.values())
        path = write_predictions(self.run.path, ("task_id", "query", *self.table.columns), rows)
        found = f", {self.table.summary(rows)}" if rows else ""
        print(f"{len(rows):,} {'query' if len(rows) == 1 else 'queries'}{found}: {path}")
