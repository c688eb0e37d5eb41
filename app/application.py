"""Runs one command in a run's folder: builds data, learner and Trainer, then trains, tests, reports."""

import os
import shlex
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from app.allocator import keep_freed_memory
from app.arguments import without_option
from app.command_line import CommandLine
from app.errors import InterruptedRun, process_rank
from app.interruption import Interruption, handlers_kept
from app.metrics_file import MetricsFile
from app.predictions import PredictionsFile
from app.progress import RunProgress
from app.quiet import silence_known_messages
from app.report import report
from app.run_files import RunFiles, config_text
from app.run_folder import RUN_FOLDER_VARIABLE, RunFolder, new_run_folder, run_of
from app.throughput import Throughput
from app.wandb_run import RunDashboard, start_wandb


class Application(CommandLine):
    """One command, from its arguments to its results.

    Args:
        arguments: The command line without the program's name.
    """

    def __init__(self, arguments: list[str]) -> None:
        silence_known_messages()
        keep_freed_memory()
        self.run = RunFolder(Path())  # chosen when all that can be checked has been checked
        self.throughput = Throughput()
        self.run_files = RunFiles(self.run)
        callbacks: list[Callback] = [self.throughput, self.run_files, Interruption(self.run, self.resume_command)]
        if arguments[0] == "predict":
            callbacks.append(PredictionsFile(self.run))
        super().__init__(arguments, callbacks)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return process_rank() == 0

    def resume_command(self) -> str:
        """What continues this run."""
        arguments = without_option(self.arguments, "--ckpt_path")
        return shlex.join(["python", "train.py", *arguments, "--ckpt_path", str(self.run.last_checkpoint)])

    # ---- LightningCLI's steps, in their order

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Builds the Trainer; its loggers come when the run's folder is there."""
        options = self.config_init[self.command]["trainer"]
        own: list[Callback] = [RunProgress(self.throughput)] if options.get("enable_progress_bar") is not False else []
        options["callbacks"] = [*(options.get("callbacks") or []), *own]
        if self.command != "fit":  # nothing to save, to stop or to draw
            self._parser(self.command).callback_keys.clear()
            kwargs["enable_checkpointing"] = False
        return super().instantiate_trainer(logger=False, **kwargs)

    def after_instantiate_classes(self) -> None:
        """Loads the data and checks that everything fits, and only then makes the run's folder."""
        self.datamodule.trainer, self.model.trainer = self.trainer, self.trainer
        self.datamodule.prepare_data()
        self.datamodule.setup(self.command)
        self.model.setup(self.command)
        self._choose_folder()
        self.run_files.config = config_text(self.config_dump)
        built = self.config_init[self.command]
        self.checkpointing: ModelCheckpoint = built["checkpoint"]
        if self.checkpointing.dirpath is None:
            self.checkpointing.dirpath = os.path.realpath(self.run.checkpoints)
        built["episode_picture"].folder = self.run.path / "episodes"
        self.trainer.loggers = self._loggers()

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs the command; where it fails before it has made anything, its new folder goes again."""
        failed = True
        try:
            with handlers_kept():
                super()._run_subcommand(subcommand)
            failed = False
        except SystemExit as stopped:  # Lightning's answer to a KeyboardInterrupt, and its SIGTERMException
            exit_code = 143 if isinstance(stopped, SIGTERMException) else 130
            raise InterruptedRun("Stopped at once." + self._how_to_go_on(), exit_code) from stopped
        finally:
            os.environ.pop(RUN_FOLDER_VARIABLE, None)
            self._finish_wandb(failed)
            if failed and self.is_first:
                self.run.remove_if_empty_handed()

    # ---- after the commands

    def after_fit(self) -> None:
        """Tests the best checkpoint; the weights as they are where there was no validation."""
        self.trainer.strategy.barrier("fit is over")
        best = self._best_checkpoint()
        if best is None and self.is_first:
            print(
                f"No validation came before the end (they come every {self.trainer.val_check_interval:,} steps): "
                "testing the last weights instead of the best."
            )
        if self.loaded is not None and self.loaded["global_step"] >= self.trainer.global_step and self.is_first:
            print(f"Nothing was left to train: the run is at step {self.trainer.global_step:,}.")
        self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best, weights_only=True, verbose=False)
        self._report("test", best)

    def after_test(self) -> None:
        """Reports the test."""
        self._report("test", self.options["ckpt_path"])

    def after_validate(self) -> None:
        """Reports the validation."""
        self._report("val", self.options["ckpt_path"])

    def _report(self, split: str, checkpoint: str | None) -> None:
        if self.is_first:
            report(self, split, checkpoint)

    # ---- the run

    def _choose_folder(self) -> None:
        continued = run_of(self.checkpoint) if self.command == "fit" and self.checkpoint else None
        if continued is not None and self.checkpoint is not None and self.checkpoint.name == "last.ckpt":
            os.environ[RUN_FOLDER_VARIABLE] = str(continued.path)
            chosen = continued
        else:
            chosen = new_run_folder(self.root, self.name, self.command, process_rank())
        self.run.path, self.run.created = chosen.path, chosen.created

    def _loggers(self) -> list[Logger]:
        loggers: list[Logger] = [MetricsFile(self.run.path / "metrics.csv")]
        asked = self.config_init[self.command]["trainer"].get("logger")
        if asked in (None, True):
            if self.command == "fit" and self.is_first:
                run_name = "/".join(self.run.path.absolute().parts[-2:])
                dashboard = start_wandb(self.run.path, run_name, self.config_dump)
                loggers += [dashboard] if dashboard is not None else []
        elif asked:
            loggers += asked if isinstance(asked, list) else [asked]
        return loggers

    def _best_checkpoint(self) -> str | None:
        best_path = self.checkpointing.best_model_path
        own = self.checkpointing.dirpath is not None and Path(best_path).parent == Path(self.checkpointing.dirpath)
        if own and Path(best_path).is_file():  # not that of a run this one was forked from
            return os.path.relpath(best_path)
        best = self.run.best_checkpoint()  # of a run whose folder was moved
        return None if best is None else str(best)

    def _how_to_go_on(self) -> str:
        if self.command == "fit" and self.run.last_checkpoint.is_file():
            return f" Continue from {self.run.last_checkpoint} with: {self.resume_command()}"
        return ""

    def _finish_wandb(self, failed: bool) -> None:
        for logger in self.trainer.loggers:
            if isinstance(logger, RunDashboard):
                logger.finish(failed)
