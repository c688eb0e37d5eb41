"""What `--help` says of the checkpoint: what the commands here take, not what Lightning's own do."""

import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[3] / "train.py"


@pytest.mark.parametrize("command", ["fit", "test"])
def test_help_says_what_a_checkpoint_may_be(command: str) -> None:
    done = subprocess.run([sys.executable, TRAIN, command, "--help"], capture_output=True, text=True, check=True)

    text = " ".join(done.stdout.split())
    assert "A checkpoint, a run's folder, its checkpoints folder, or the word best or last." in text
    assert "Model Registry" not in text
    assert "weights_only=False" not in text
