"""Lightning's Trainer with its own defaults, as a program makes it that knows nothing of the command line."""

from typing import Any

import pytorch_lightning as pl


def plain_trainer(**settings: Any) -> pl.Trainer:
    """One that prints and writes nothing unless it is told to."""
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"accelerator": "cpu", "enable_checkpointing": False}
    return pl.Trainer(**(quiet | settings))
