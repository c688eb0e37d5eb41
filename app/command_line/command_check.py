"""Checks of a command on a user's own classes, before anything is read."""

from collections.abc import Mapping
from typing import Any

from app.checkpoints.configuration import objective_of
from app.command_line.arguments import config_files, option_values
from app.process.errors import UsageError
from datamodules import SupportQuery
from datamodules.objective import CLASSIFICATION


def check_support_is_given(arguments: list[str]) -> None:
    """Refuses half of what a user's own classes take.

    Raises:
        UsageError: If --data SupportQuery comes without --data.support, or its options without it.
    """
    names = {argument.partition("=")[0].replace(".init_args.", ".") for argument in arguments}
    own = [name for name in ("--data.support", "--data.query") if name in names]
    named = [name.rpartition(".")[2] for name in option_values(arguments, "--data")]
    if SupportQuery.__name__ in named[-1:] and "--data.support" not in names and not config_files(arguments):
        raise UsageError("--data SupportQuery needs --data.support: a folder with a folder of images for each class")
    if own and not named and not config_files(arguments):
        raise UsageError(f"{own[0]} belongs to --data SupportQuery: add that")


def check_user_classes(data_class_path: str, checkpoint: dict[str, Any]) -> None:
    """Refuses to export without a user's support images, or what is no classifier.

    Raises:
        UsageError: If the data are others, or the checkpoint has learned something else than classification.
    """
    learned = objective_of(checkpoint)
    if learned is not CLASSIFICATION:
        raise UsageError(
            f"export writes classifiers, and the checkpoint has learned {learned.name}: set --ckpt_path to one of "
            "classification"
        )
    if data_class_path.rpartition(".")[2] != SupportQuery.__name__:
        raise UsageError(
            "export needs the classes to learn: set --data SupportQuery and --data.support to a folder that holds a "
            "folder of images for each class"
        )


def check_there_is_a_query(data: Mapping[str, Any], checkpoint: dict[str, Any]) -> None:
    """Refuses to predict with support images alone; that a regression takes none is said elsewhere.

    Args:
        data: The configured data set's class_path and init_args.
        checkpoint: What answers.

    Raises:
        UsageError: If it is a user's own task without a query.
    """
    own = str(data["class_path"]).rpartition(".")[2] == SupportQuery.__name__
    if own and objective_of(checkpoint) is CLASSIFICATION and not (data.get("init_args") or {}).get("query"):
        raise UsageError("predict needs --data.query: a folder of images to classify, or one image")
