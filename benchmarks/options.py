"""What a section of the benchmark is told."""

from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Options:
    """What every section's `run` takes.

    Args:
        device: Where everything is computed.
        seconds: What this section may take, about.
        data: Folder that holds `omniglot/`; None: nothing was found, and sections that need real images say so.
    """

    device: torch.device
    seconds: float
    data: Path | None = None
