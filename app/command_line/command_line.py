"""The command line as a configuration: what it says, what it leaves unsaid, and what is refused."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from app.checkpoints.choice import choose_checkpoint, only_name
from app.checkpoints.configuration import (
    check_same_method,
    checkpoint_config,
    data_class,
    read_checkpoint,
)
from app.checkpoints.origin import FitOrigin, first_of
from app.checkpoints.resumable_runs import find_runs
from app.checkpoints.resume_decision import Beginning, Training
from app.checkpoints.stored_configuration import of_classes, run_name_in, shapes_of
from app.command_line import parser as parsing
from app.command_line.arguments import config_files, option_values, run_name
from app.command_line.command_check import check_support_is_given, check_there_is_a_query
from app.command_line.default_configuration import (
    default_configuration,
    default_run_name,
    fitting_backbone,
    run_name_of,
)
from app.command_line.fit_configuration import fit_configuration
from app.command_line.linked_arguments import link_to_data, linked_names, refuse_linked
from app.command_line.option_help import CHECKPOINT_HELP, MATMUL_PRECISION_HELP, RESUME_HELP
from app.command_line.own_command import OwnCommand
from app.command_line.stored_classes import (
    check_stored_classes,
    import_named_classes,
    protect_places,
    without_download,
)
from app.command_line.trainer_options import DEFAULTS, check_counts, check_trainer_options
from app.process.errors import UsageError
from app.runs.early_stopping import EarlyStopping
from app.runs.episode_picture import EpisodePicture
from app.runs.folder import RunFolder, run_of
from app.runs.lock import RunLock
from app.runs.run_checkpoint import RunCheckpoint
from app.user_classes.answers import COMMANDS_THAT_ANSWER, Answers
from datamodules.episode_data import EpisodeDataModule
from datamodules.images.cache import only_read
from modules import Learner
from modules.backbones.weights import weights_follow
from modules.functional.matmul_precision import MatmulPrecision, set_matmul_precision


class CommandLine(LightningCLI):
    """Parses a command line, with the default configuration or the checkpoint's own behind it.

    Args:
        arguments: The command line without the program's name.
        callbacks: Callbacks of every Trainer.
        own_command: The command, where it is none of Lightning's.
    """

    def __init__(self, arguments: list[str], callbacks: list[Callback], own_command: OwnCommand | None = None) -> None:
        self.arguments, self.own_command = arguments, own_command
        self.command = arguments[0]
        self.checkpoint: Path | None = None
        self.loaded: dict[str, Any] | None = None
        self.origin: FitOrigin | None = None  # of `fit`
        self.own_runs: list[RunFolder] = []  # that --resume auto may resume, once the data are known
        self.lock = RunLock()
        super().__init__(
            Learner,
            EpisodeDataModule,
            save_config_callback=None,
            trainer_defaults={**DEFAULTS, "callbacks": callbacks},
            seed_everything_default=0,
            parser_class=parsing.OneLineParser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            args=arguments,
        )

    # ---- the command line

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one command that is run: building the others' parsers would take as long again."""
        return {self.command: LightningCLI.subcommands().get(self.command, set())}

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        if self.own_command is None:
            super()._add_subcommands(parser, **kwargs)
            return
        subcommands, description = parser.add_subcommands(), self.own_command.description
        own_parser = self._prepare_subcommand_parser(Trainer, self.command, description=description)
        self._subcommand_parsers = {self.command: own_parser}
        subcommands.add_subcommand(self.command, own_parser, help=description)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--seed_everything", type=int, default=0, help="Seed of the weights and of the training tasks."
        )
        parser.add_argument("--matmul_precision", type=MatmulPrecision, default="highest", help=MATMUL_PRECISION_HELP)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(EpisodePicture, "episode_picture")
        if self.command in COMMANDS_THAT_ANSWER:
            parser.add_lightning_class_args(Answers, "answers")
        import_named_classes(self.arguments)
        self.linked = linked_names()
        link_to_data(parser, self.linked, self._kept_arguments)
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def _kept_arguments(self) -> dict[str, Any]:
        """The learner's arguments that stay whatever the data are: those of a checkpoint that is not trained on."""
        kept: dict[str, Any] = self.loaded["hyper_parameters"] if self.loaded and self.command != "fit" else {}
        return kept

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        if self.own_command is None:
            parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        else:
            parser = self.init_parser(**kwargs)
            self._add_arguments(parser)
            self._subcommand_method_arguments[subcommand] = self.own_command.add_options(parser)
        parser.set_defaults({"weights_only": True})  # nothing in a checkpoint is executed
        if subcommand == "fit":
            parser.add_argument("--resume", type=Literal["auto"] | None, default=None, help=RESUME_HELP)
        for action in parser._actions:  # Lightning's texts speak of a registry and of unsafe loading
            if action.dest in CHECKPOINT_HELP:
                action.help = CHECKPOINT_HELP[action.dest]
        own = {"predict": {"return_predictions": False}, "test": {"verbose": False}, "validate": {"verbose": False}}
        parser.set_defaults(own.get(subcommand, {}))
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses the command line after what it leaves unsaid: the default configuration, or the checkpoint's own."""
        refuse_linked(self.arguments, self.linked)
        options = list(parsing.option_names(self._subcommand_parsers[self.command]))
        parsing.PARSED.arguments, parsing.PARSED.options = self.arguments, options
        unsaid = self._unsaid_configuration()
        self._parse(parser, unsaid)
        if self.command == "fit" and unsaid is not None and self.loaded is None:
            check_counts(self.options["data"]["init_args"].as_dict())
            model, data = (self.options[section].as_dict() for section in ("model", "data"))
            backbone = fitting_backbone(model, data, self.arguments)
            if backbone is not None and backbone != model["init_args"]["backbone"]:
                unsaid["model"].setdefault("init_args", {})["backbone"] = backbone
                self._parse(parser, unsaid)

    def _parse(self, parser: LightningArgumentParser, unsaid: dict[str, Any] | None) -> None:
        before = [] if unsaid is None else ["--config", json.dumps(unsaid)]
        self.config = parser.parse_args([self.command, *before, *self.arguments[1:]])
        self.options = self.config[self.command]

    def _parse_ckpt_path(self) -> None:
        """Lightning's own reading of the checkpoint would undo the command line's overrides."""

    def _unsaid_configuration(self) -> dict[str, Any] | None:
        """What stands behind the command line; None where a configuration file does, or where help is asked for."""
        only_read([])  # what another command of this process has said
        given = option_values(self.arguments, "--ckpt_path")
        if {"-h", "--help"} & set(self.arguments) or any(".help" in argument for argument in self.arguments):
            # Help of what lies in a model, as its backbone, needs a model.
            inner = any(argument.startswith(("--model.backbone", "--model.init_args")) for argument in self.arguments)
            return default_configuration(self.arguments) if inner and not config_files(self.arguments) else None
        if self.command == "fit" and config_files(self.arguments):
            return None
        if self.command == "fit" and not given:
            return default_configuration(self.arguments)
        if not given:
            raise UsageError(
                f"{self.command} needs --ckpt_path: a checkpoint, a run's folder, or the word best or last"
            )
        self._load_checkpoint(given[-1])
        return self._stored_configuration()

    def _stored_configuration(self) -> dict[str, Any]:
        """The checkpoint's own configuration: it imports nothing, downloads nothing and chooses no place to write."""
        assert self.loaded is not None
        assert self.checkpoint is not None
        other = self._other_data(self.loaded)
        if self.command == "fit":
            config = fit_configuration(self.loaded, self.arguments, parsing.PARSED.options)
        else:
            config = checkpoint_config(self.loaded, other)
        check_stored_classes(self.checkpoint, config, self.arguments)
        protect_places(self.checkpoint, self.loaded["datamodule_hyper_parameters"], self.arguments)
        return without_download(config) if other is None else config

    def _other_data(self, loaded: dict[str, Any]) -> str | None:
        """The data set that the command line names, where it is not the checkpoint's own."""
        asked = [data_class(name) for name in option_values(self.arguments, "--data")]
        check_support_is_given(self.arguments)
        own = data_class(loaded["datamodule_hyper_parameters"]["_class_path"])
        return asked[-1] if asked and asked[-1] not in (None, own) else None

    # ---- the checkpoint and the run

    @property
    def root(self) -> Path:
        """The folder of all runs."""
        given = option_values(self.arguments, "--trainer.default_root_dir")
        return Path(given[-1] if given else "runs")

    @property
    def name(self) -> str:
        """The run's name: its configuration file's; else that of its checkpoint's run, if it trains the same there."""
        if config_files(self.arguments):
            return run_name(self.arguments)
        run = run_of(self.checkpoint) if self.checkpoint else None
        name = run_name_in(self.loaded or {}) or (run.path.absolute().parent.name if run is not None else None)
        if self.command != "fit":
            return default_run_name(self.arguments) if name is None else name
        model, data = (self.options[section]["class_path"] for section in ("model", "data"))
        if name is None or (self.loaded is not None and not of_classes(self.loaded, model, data)):
            return run_name_of(model, self.options["data"].as_dict())
        return name

    def instantiate_classes(self) -> None:
        """Builds all; no file of weights is read where those of a checkpoint follow."""
        self.weights_follow = self.loaded is not None or any(run.states() for run in self.own_runs)
        with weights_follow() if self.weights_follow else nullcontext():
            super().instantiate_classes()

    def before_instantiate_classes(self) -> None:
        """Checks all that can be checked before anything is built."""
        set_matmul_precision(self.options["matmul_precision"])
        check_trainer_options(self.command, self.options["trainer"].as_dict())
        check_counts(self.options["data"]["init_args"].as_dict())
        if self.own_command is not None:
            self.own_command.check(self.options["data"]["class_path"], self.loaded or {})
        if self.command == "predict":
            check_there_is_a_query(self.options["data"].as_dict(), self.loaded or {})
        given = self.options.get("ckpt_path")
        if self.options.get("resume"):
            if given:
                raise UsageError("--resume auto finds the checkpoint by itself: leave --ckpt_path out")
            if self.options["trainer"].get("overfit_batches"):
                raise UsageError("trainer.overfit_batches cannot be resumed: leave --resume out")
            self._dump_config()
            self.own_runs = find_runs(self.root, self.name, self.config_dump)
        elif self.command == "fit" and given and self.options["trainer"].get("fast_dev_run"):
            raise UsageError("trainer.fast_dev_run tries a run from its beginning: leave --ckpt_path out")
        elif self.command == "fit" and given and self.loaded is None:
            self._load_checkpoint(given)
        elif self.command != "fit" and self.loaded is not None and self.checkpoint is not None:
            check_same_method(self.loaded, self.checkpoint, self.options["model"]["class_path"])
        self.options["ckpt_path"] = str(self.checkpoint) if self.checkpoint else None

    def _run_subcommand(self, subcommand: str) -> None:
        if self.own_command is None:
            super()._run_subcommand(subcommand)
            return
        options, own = self.config_init[subcommand], self._subcommand_method_arguments[subcommand]
        self.own_command.run(self, **{name: options[name] for name in own})

    def _load_checkpoint(self, given: str) -> None:
        if config_files(self.arguments):
            name = run_name(self.arguments)
        elif self.command == "fit":
            name = default_run_name(self.arguments)
        else:
            name = only_name(given, self.root) or run_name(self.arguments)
        chosen = choose_checkpoint(given, self.root, name, to_train=self.command == "fit")
        if chosen is None:
            hint = ": leave --ckpt_path out, or set --resume auto in its place" if self.command == "fit" else ""
            raise UsageError(f"--ckpt_path {given}: there is no run of {name} in {self.root}/{hint}")
        if self.command == "fit":
            self.origin = FitOrigin.at(chosen)
            self.checkpoint, self.loaded = self.origin.path, self.origin.contents
        else:
            self.checkpoint, self.loaded = chosen, read_checkpoint(chosen)

    def _decide_origin(self) -> None:
        """Decides, now that the data are known, whether a run goes on or another begins, and from which state."""
        self._dump_config()
        self.model.make_for(self.datamodule)
        now = Training(self.config_dump, self.datamodule.identity(), shapes_of(self.model.state_dict()))
        if self.options.get("resume"):
            self.origin = first_of(self.own_runs, now)
        elif self.origin is not None:
            self.origin.decide(now, self.model.learned_arguments)
        if self.origin is None:
            return
        if self.origin.run is not None:
            self.origin.claim(self.lock)
            for path in self.origin.damaged:
                rank_zero_only(print)(f"{path} is damaged: resuming from {self.origin.path} instead.")
        self.checkpoint, self.loaded = self.origin.path, self.origin.contents
        if self.origin.beginning is Beginning.AT_STEP_0:
            self.origin.give_weights(self.model)
        is_resumed = self.checkpoint is not None and self.origin.beginning is not Beginning.AT_STEP_0
        self.config_init[self.command]["ckpt_path"] = str(self.checkpoint) if is_resumed else None
