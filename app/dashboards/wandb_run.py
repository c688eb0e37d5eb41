"""Weights & Biases: online where the user is logged in, else offline; never a prompt, never a crash."""

import csv
import logging
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from app.dashboards.wandb_login import wandb_mode
from app.runs.metrics_file import steps_taken
from app.runs.results import objective_of
from datamodules.objective import OBJECTIVES

PROJECT = "quickstudy"
X_AXIS = "trainer/global_step"
ADAPTED, INNER_STEP = "test/{score}_after_inner_step", "test/inner_step"
INIT_SECONDS, FINISH_SECONDS = 20, 20  # how long a server that does not answer may hold up a run


class RunDashboard(WandbLogger):
    """A W&B run whose configuration is the command line's, in one place, and that a failing W&B cannot stop.

    Args:
        run: What `wandb.init` returned.
        folder: The run's folder.
    """

    def __init__(self, run: Any, folder: Path) -> None:
        super().__init__(experiment=run, save_dir=str(folder), name=run.name, id=run.id)
        self._folder = folder
        self._is_complete = False
        self._complained = False

    @property
    def where(self) -> str:
        """One line that says where the log is."""
        run: Any = self._experiment
        return f"W&B: {f'offline; upload with: {sync_command(run)}' if run.offline else run.url}"

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """The whole configuration was given at the start."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs one row; before the first one, the rows of the run's past that W&B does not have.

        Args:
            metrics: Name -> value.
            step: The outer steps before that of the row, as a Trainer counts for its loggers.
        """
        taken = None if step is None else steps_taken(step)
        if not self._is_complete and taken is not None:
            self._is_complete = True
            self._attempt(lambda: self._add_past(metrics, taken))
        self._attempt(lambda: super(RunDashboard, self).log_metrics(metrics, taken))

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Logs pictures, which W&B copies first."""
        self._attempt(lambda: super(RunDashboard, self).log_image(key, images, step, **kwargs))

    def add_results(self, results: dict[str, Any]) -> None:
        """Puts the test's result into the run's summary, and draws the adaptation curve."""
        self._attempt(lambda: self._add_results(results))

    def _add_results(self, results: dict[str, Any]) -> None:
        self.experiment.summary.update(columns({results["split"]: results}))
        adapted = ADAPTED.format(score=objective_of(results).score_name)
        for inner_step, score in results["adaptation_curve"].items():  # a table would wait for the server
            row = {adapted: score, INNER_STEP: int(inner_step), X_AXIS: results["global_step"]}
            self.experiment.log(row)

    def finish(self, failed: bool) -> None:
        """Ends the W&B run within FINISH_SECONDS; what cannot be uploaded by then stays in the run's folder."""
        self._attempt(lambda: self.experiment.finish(exit_code=int(failed)))
        _end_process()

    def _attempt(self, act: Callable[[], object]) -> None:
        """Does it; what W&B raises is worth one line in a run's life."""
        try:
            act()
        except Exception as error:
            if not self._complained:
                self._complained = True
                print(self._complaint(error), file=sys.stderr)

    def _complaint(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):  # only `finish` has a limit
            return f"W&B did not take everything in time; upload it with: {sync_command(self.experiment)}"
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        return f"W&B's log is not complete, metrics.csv is: {reason}"

    def _add_past(self, row: Mapping[str, float], first: int) -> None:
        """Logs the rows of metrics.csv, and the pictures, between W&B's last row and this one, of step `first`.

        A continued run begins a new log. Offline, nothing is known of the old ones. Where the run was killed they lack
        their last rows, and `wandb sync` stops at their torn end and uploads nothing of what follows. So the new log
        gets the whole run, and the old ones are marked as uploaded.
        """
        summary = self.experiment.summary if self.experiment.resumed else {}
        known = summary.get(X_AXIS, 0)  # W&B has some of that step's rows, and their values in its summary
        validates = any(name.startswith("val/") for name in row)  # and draws that step's picture again
        for step, metrics, picture in _past(self._folder):
            is_this = step == first and bool((metrics.keys() & row.keys()) - {"epoch"})  # metrics.csv is written before
            is_there = step == known and all(summary.get(name) == value for name, value in metrics.items())
            if picture is None and known <= step <= first and not is_this and not is_there:
                super().log_metrics(metrics, step)
            elif picture is not None and known < step <= first - validates:
                super().log_image("val/episode", [str(picture)], step - 1)
        own = Path(self.experiment.dir).parent
        for log in own.parent.glob("offline-run-*/*.wandb"):
            if log.parent != own:
                log.with_suffix(".wandb.synced").touch()


def _past(folder: Path) -> list[tuple[int, dict[str, float], Path | None]]:
    """Returns what a run's folder holds of its past, by step: (step, metrics, None) or (step, {}, picture)."""
    past: list[tuple[int, dict[str, float], Path | None]] = []
    if (folder / "metrics.csv").is_file():
        with (folder / "metrics.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                if step := row.pop("step"):
                    past.append((int(float(step)), {name: float(value) for name, value in row.items() if value}, None))
    for picture in sorted(folder.glob("episodes/step-*.png")):
        past.append((int(picture.stem.removeprefix("step-")), {}, picture))
    return sorted(past, key=lambda row: row[0])


def start_wandb(folder: Path, name: str, config: dict[str, Any]) -> Logger | None:
    """Starts or resumes the run's W&B run; None where it is disabled or cannot start.

    Args:
        folder: The run's folder; wandb/ and wandb_id go there.
        name: The run's name on the dashboard.
        config: The resolved configuration.
    """
    mode = wandb_mode()
    if mode == "disabled":
        return None
    try:
        run = _init(folder, name, columns(config), mode)
        run.define_metric(X_AXIS)
        run.define_metric("*", step_metric=X_AXIS, step_sync=True)
        run.define_metric(INNER_STEP)
        for objective in OBJECTIVES.values():
            run.define_metric(ADAPTED.format(score=objective.score_name), step_metric=INNER_STEP)
        (folder / "wandb_id").write_text(run.id + "\n")
    except Exception as error:  # whatever W&B cannot do, the training can go on
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        print(f"W&B did not start, metrics.csv is written all the same: {reason}", file=sys.stderr)
        _end_process()
        return None
    return RunDashboard(run, folder)


def _init(folder: Path, name: str, config: dict[str, Any], mode: str) -> Any:
    logging.raiseExceptions = False  # a full disk: W&B's debug.log would print a traceback for each of its lines
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B's reports on itself complain where no server answers
    import wandb  # takes a second

    stored = folder / "wandb_id"
    run_id = stored.read_text().strip() if stored.is_file() else secrets.token_hex(4)
    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        finish_timeout_raises=True,
    )
    wandb.setup(settings)  # `silent` at `init` comes too late for the login
    arguments: dict[str, Any] = {
        "project": os.environ.get("WANDB_PROJECT", PROJECT),
        "dir": str(folder.absolute()),  # W&B's own process may have another working directory
        "id": run_id,
        "name": os.environ.get("WANDB_NAME", name),
        "config": config,
        "mode": mode,
        "resume": "allow" if mode == "online" else None,
        "settings": settings,
        "reinit": "finish_previous",
    }
    try:
        return wandb.init(**arguments)
    except Exception:
        if mode != "online":
            raise
        _end_process()  # it would refuse the same id
        wandb.setup(settings)
        return wandb.init(**(arguments | {"mode": "offline", "resume": None}))


def _end_process() -> None:
    """Ends W&B's own process, or what is left of one that was killed, which would print a traceback at our exit."""
    import wandb

    with suppress(Exception, SystemExit):
        wandb.teardown()


def sync_command(run: Any) -> str:
    """Returns what uploads a run's log, from the folder that the command was started in."""
    program = ["wandb"] if shutil.which("wandb") else [sys.executable, "-m", "wandb"]
    log = os.path.relpath(Path(run.dir).parent)
    return shlex.join([*program, "sync", *([] if run.offline else ["--include-online"]), log])


def columns(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as W&B's columns: `model/inner_lr`, `data/evaluation/n_test_tasks`, `trainer/max_steps`, ...

    A class is the value of its own name, and its arguments stand beside it: `model` is "modules.MAML". W&B takes a dot
    in a name for a nested value, and then neither sorts nor filters by it.
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and "class_path" in value:
            flat[name] = value["class_path"]
            value = value.get("init_args") or {}
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": leaf for inner, leaf in columns(value).items()}
        elif name not in flat:
            flat[name] = value
    return flat
