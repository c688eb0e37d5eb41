"""Runs one command in a run's folder: builds data, learner and Trainer, then trains, tests, reports."""

import os
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from app.checkpoints.choice import sound_best
from app.checkpoints.configuration import changed_arguments, check_same_objective
from app.checkpoints.file import AtomicCheckpoints
from app.checkpoints.stored_configuration import own_entries
from app.command_line.arguments import without_option
from app.command_line.command_line import CommandLine
from app.command_line.own_command import OwnCommand
from app.dashboards.wandb_run import RunDashboard, start_wandb
from app.process.allocator import keep_freed_memory
from app.process.errors import InterruptedRun, one_line, process_rank
from app.process.quiet import silence_known_messages
from app.process.signals import StopSignals
from app.runs.conclusion import conclude
from app.runs.files import RunFiles, config_text
from app.runs.folder import RUN_FOLDER_VARIABLE, RunFolder, configuration_of, new_run_folder
from app.runs.interruption import Interruption
from app.runs.metrics_file import MetricsFile
from app.runs.missing_best import why_none_is_best
from app.runs.predictions import PredictionsFile
from app.runs.progress import RunProgress
from app.runs.run_checkpoint import RunCheckpoint
from app.runs.throughput import Throughput
from app.runs.time_limit import with_time_limit
from app.user_classes.answers import COMMANDS_THAT_ANSWER, Answers
from app.user_classes.calibration import KEY, add_to_checkpoint, calibrate
from app.user_classes.likeness import KEY as LIKENESS
from app.user_classes.likeness import likeness_of_run
from datamodules import SupportQuery
from datamodules.objective import CLASSIFICATION
from datamodules.progress import say
from modules.backbones.trained_images import TRAINED_CLASSES, images_of
from modules.learner.fit_check import check_before_reading

CHILDREN_SECONDS = 5.0  # for a process that stops by itself


class Application(CommandLine):
    """One command, from its arguments to its results.

    Args:
        arguments: The command line without the program's name.
        signals: Those that end the run.
        own_command: The command, where it is none of Lightning's.
    """

    def __init__(self, arguments: list[str], signals: StopSignals, own_command: OwnCommand | None = None) -> None:
        silence_known_messages()
        keep_freed_memory()
        self.signals = signals
        self.run = RunFolder(Path())  # chosen when all that can be checked has been checked
        self.throughput = Throughput()
        self.run_files = RunFiles(self.run)
        callbacks: list[Callback] = [self.throughput, self.run_files, Interruption(signals, self._how_to_resume)]
        super().__init__(arguments, callbacks, own_command)

    @property
    def resumed_run(self) -> RunFolder | None:
        """The run whose folder this one goes on in."""
        return None if self.origin is None else self.origin.run

    @property
    def is_first(self) -> bool:
        """Tells whether this is the process that writes."""
        return process_rank() == 0

    def resume_command(self) -> str:
        """Returns what resumes this run."""
        if self.options.get("resume"):
            return shlex.join(["python", "train.py", *self.arguments])
        arguments = without_option(self.arguments, "--ckpt_path")
        return shlex.join(["python", "train.py", *arguments, "--ckpt_path", str(self.run.last_checkpoint)])

    # ---- LightningCLI's steps, in their order

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Builds the Trainer; its loggers come when the run's folder is there."""
        options = self.config_init[self.command]["trainer"]
        own: list[Callback] = [RunProgress(self.throughput)] if options.get("enable_progress_bar") is not False else []
        options["callbacks"] = [*_listed(options.get("callbacks")), *own]
        options["plugins"] = [*_listed(options.get("plugins")), AtomicCheckpoints()]
        if self.command != "fit":  # nothing to save, to stop or to draw
            self._parser(self.command).callback_keys.clear()
            kwargs["enable_checkpointing"] = False
        trainer = super().instantiate_trainer(logger=False, **kwargs)
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it undeclared
        trainer.callbacks = with_time_limit(callbacks, options.get("max_time"))  # type: ignore[attr-defined]
        return trainer

    def after_instantiate_classes(self) -> None:
        """Loads the data and checks that everything fits, and only then makes the run's folder."""
        self.datamodule.trainer, self.model.trainer = self.trainer, self.trainer
        if self.loaded is not None and self.checkpoint is not None:
            check_same_objective(self.loaded, self.checkpoint, self.datamodule)
            if self.command != "fit":
                self.datamodule.adopt(self.loaded.get("input_spec", {}))
        if not isinstance(self.datamodule, SupportQuery):
            check_before_reading(self.model, self.datamodule, self.command)
        self.datamodule.stage = self.command
        self.datamodule.prepare_data()
        self.datamodule.setup(self.command)
        if self.command == "fit":
            self._decide_origin()
            if self.weights_follow and self.loaded is None:  # none of the runs is this one
                self._build_again()
                return
        if self.loaded is not None:
            scored = {"fit": ("val", "test"), "validate": ("val",)}.get(self.command, ("test",))
            self.datamodule.check_unseen(self.loaded.get(TRAINED_CLASSES, []), scored, images_of(self.loaded))
        self.model.setup(self.command)
        self._dump_config()
        config = config_text(self.config_dump, self._begun_from())
        self._choose_folder(config)
        run_name = self.run.path.absolute().parent.name
        of_checkpoints = own_entries(self.config_dump, self.datamodule.identity(), run_name)
        self.run_files.describe(config, of_checkpoints, is_resumed=self.resumed_run is not None)
        self.run_files.step = 0 if self.origin is None else self.origin.step
        if self.origin is not None:
            rank_zero_only(print)(self.origin.line(self.run))
        built = self.config_init[self.command]
        self.checkpointing: RunCheckpoint = built["checkpoint"]
        self.checkpointing.dirpath = os.path.realpath(self.run.checkpoints)
        for callback in (built["checkpoint"], built["early_stopping"]):
            callback.follow(self.datamodule.objective)
        built["episode_picture"].folder = self.run.path / "episodes"
        if self.command in COMMANDS_THAT_ANSWER:
            self._prepare_answers(built["answers"])
        self.trainer.loggers = self._loggers()
        profiler: Any = self.trainer.profiler  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        if not isinstance(profiler, PassThroughProfiler) and profiler.filename is None:
            # It would say what it found in a log of Lightning's, of which only warnings are shown.
            profiler.dirpath, profiler.filename = self.run.path, "profile"

    def _build_again(self) -> None:
        """Builds all anew, from the network's own first weights."""
        self.own_runs = [] if self.origin is None or self.origin.run is None else [self.origin.run]
        self._set_seed()
        self.instantiate_classes()
        self.after_instantiate_classes()

    def _begun_from(self) -> str | None:
        """The other run's checkpoint that the run began from, as config.yaml keeps it."""
        if self.origin is None:
            return None
        if self.origin.run is not None:
            return (configuration_of(self.origin.run) or {}).get("ckpt_path")
        return str(self.origin.path)

    def _prepare_answers(self, answers: Answers) -> None:
        """Chooses what is written: the answers for a user's images, or those for the test tasks."""
        assert self.loaded is not None
        config = {key: self.options[key].as_dict() for key in ("model", "data")}
        changed = any(change.startswith("model.") for change in changed_arguments(self.loaded, config))
        answers.run = self.run
        of_another_learner = {KEY, LIKENESS} if changed else set()
        answers.checkpoint = {k: v for k, v in self.loaded.items() if k not in of_another_learner}
        self.answers = answers
        if self.own_command is not None:
            return
        own = isinstance(self.datamodule, SupportQuery)
        callback = answers if own else PredictionsFile(self.run, self.datamodule.objective)
        self.trainer.callbacks.append(callback)  # type: ignore[attr-defined]  # Lightning sets it without declaring it

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs the command; where it fails before it has made anything, its new folder goes again."""
        failed = True
        try:
            super()._run_subcommand(subcommand)
            failed = False
        except (KeyboardInterrupt, SystemExit) as stopped:  # the latter is Lightning's answer to the former
            raise InterruptedRun("Stopped at once." + self._how_to_resume(), self.signals.exit_code) from stopped
        except Exception as error:
            if self.signals.number is not None and not isinstance(error, InterruptedRun):
                # Of several ranks the first one to stop, in a validation, leaves the others with a broken connection.
                raise InterruptedRun("Stopped." + self._how_to_resume(), self.signals.exit_code) from error
            error.add_note(self._how_to_resume())
            raise
        finally:
            if failed:
                self._end_other_processes()
            os.environ.pop(RUN_FOLDER_VARIABLE, None)
            self._finish_wandb(failed)
            if failed and self.is_first and not self.throughput.tasks:
                self.run.remove_if_empty_handed()
            self.lock.release()

    # ---- after the commands

    def after_fit(self) -> None:
        """Tests the best checkpoint, or the last; the weights as they are where there was no validation."""
        self.trainer.strategy.barrier("fit is over")
        self._log_at(self.trainer.global_step)
        self.run_files.announce(self.trainer)  # where nothing was left to train
        best = sound_best(self.run, self.checkpointing.best_model_path, say=self.is_first)
        tests_last = self.checkpointing.tested == "last"
        if best is None and not tests_last and self.is_first:
            print(
                f"{why_none_is_best(self.trainer, self.checkpointing)}: testing the last weights instead of the best."
            )
        if self.origin is not None and self.origin.step >= self.trainer.global_step and self.is_first:
            print(f"Nothing was left to train: the run is at step {self.trainer.global_step:,}.")
        tested = os.path.relpath(self.run.last_checkpoint) if tests_last else best
        self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=tested, weights_only=True, verbose=False)
        self._report("test", tested)
        if tested is not None and best is not None and self.datamodule.objective is CLASSIFICATION:
            self._calibrate(Path(tested))

    def _calibrate(self, tested: Path) -> None:
        """Gives the checkpoint that was tested what `predict` tells sure answers by."""
        if self.is_first:
            self.model.to(self.trainer.strategy.root_device)  # where Lightning has taken it from after the test
            try:
                measured = likeness_of_run(self.model, self.datamodule)
                add_to_checkpoint(tested, calibrate(self.model, self.datamodule), measured)
            except (OSError, RuntimeError, ValueError) as error:  # the run is over and its results are written
                say(f"warning: {tested} is not calibrated: {one_line(error)}")
        self.trainer.strategy.barrier("calibrated")

    def after_test(self) -> None:
        """Reports the test."""
        self._report("test", self.options["ckpt_path"])

    def after_validate(self) -> None:
        """Reports the validation."""
        self._report("val", self.options["ckpt_path"])

    def _report(self, split: str, checkpoint: str | None) -> None:
        if self.is_first:
            conclude(self, split, checkpoint)

    # ---- the run

    def _choose_folder(self, config: str) -> None:
        chosen = self.resumed_run
        if chosen is None:
            chosen = new_run_folder(self.root, self.name, self.command, config, process_rank())
        self.run.path, self.run.created = chosen.path, chosen.created
        os.environ[RUN_FOLDER_VARIABLE] = str(chosen.path)
        if self.command == "fit" and self.is_first:
            self.lock.acquire(self.run.path)
            # A damaged one would take the place of the sound one before it.
            for path in self.origin.damaged if self.origin else []:
                path.rename(path.with_name(f"damaged-{path.name}"))

    def _loggers(self) -> list[Logger]:
        trained = self.loaded["global_step"] if self.loaded is not None and self.resumed_run is not None else 0
        if self.command != "fit" and self.loaded is not None:
            self._log_at(self.loaded["global_step"])
        loggers: list[Logger] = [MetricsFile(self.run.path / "metrics.csv", trained)]
        asked = self.config_init[self.command]["trainer"].get("logger")
        if asked in (None, True):
            if self.command == "fit" and self.is_first:
                run_name = "/".join(self.run.path.absolute().parts[-2:])
                dashboard = start_wandb(self.run.path, run_name, self.config_dump)
                loggers += [dashboard] if dashboard is not None else []
        elif asked:
            loggers += _listed(asked)
        return loggers

    def _log_at(self, step: int) -> None:
        """Makes an evaluation's scores stand at an outer step."""
        # Of the rows of step N, Lightning counts N - 1.
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = step - 1

    def _end_other_processes(self) -> None:
        """Ends those that Lightning has started: they may wait for this one where no signal reaches them."""
        started = getattr(self.trainer.strategy.launcher, "procs", [])
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(CHILDREN_SECONDS)
            process.kill()

    def _how_to_resume(self) -> str:
        if self.command == "fit" and self.run.last_checkpoint.is_file():
            return f" The state is in {self.run.last_checkpoint}; resume with: {self.resume_command()}"
        return ""

    def _finish_wandb(self, failed: bool) -> None:
        for logger in self.trainer.loggers:
            if isinstance(logger, RunDashboard):
                logger.finish(failed)


def _listed(given: Any) -> list[Any]:
    """Returns what an option holds that takes one thing, several or none."""
    return [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
