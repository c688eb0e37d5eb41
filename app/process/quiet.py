"""Silences what Lightning and its parts say on every run; other warnings stay."""

import logging
import os
import warnings

# The beginning of each message, as a regular expression.
KNOWN = (
    r".*does not have many workers",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",
    r".*LeafSpec",
    r"Checkpoint directory .* exists and is not empty",
    r".*The `?IterableDataset`? has `__len__` defined",
    r".*Your `IterableDataset` has `__len__`",
    r".*resuming from a checkpoint that ended before the epoch ended",  # the stream goes on there
    r"Be aware that when using `ckpt_path`, callbacks used",  # `test` needs no callback of `fit`
    r"It is recommended to use `self\.log\(.*sync_dist=True",  # learners reduce their scores themselves
    r"The ``compute`` method of metric TaskMean was called before",  # a rank that no validation task was left for
    r"The `srun` command is available on your system",
    r".*There is a wandb run already in progress",
    r".*LightningCLI's args parameter is intended",
    r"The number of training batches .* is smaller than the logging interval",
    r".*No device id is provided via `init_process_group`",
    r"Found \d+ module\(s\) in eval mode at the start of training",  # a frozen backbone
    r"You requested to overfit but enabled .* shuffling",  # the stream is never shuffled
    r".*barrier\(\): using the device under current context",
)


def silence_known_messages() -> None:
    """Hides device announcements, tips and warnings that do not apply here."""
    for name in ("pytorch_lightning", "lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        for child in list(logging.root.manager.loggerDict):
            if child.startswith(name + "."):
                logging.getLogger(child).setLevel(logging.WARNING)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # they are about how Lightning calls it
    for message in KNOWN:
        warnings.filterwarnings("ignore", message=message)
