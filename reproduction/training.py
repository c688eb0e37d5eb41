"""A training that cells share: its commands, and what its run left."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from app.checkpoints.choice import best_checkpoint
from app.checkpoints.resumption import what_is_trained
from app.errors import UsageError
from app.runs.folder import RunFolder
from reproduction.cells import Cell

ROOT = Path(__file__).resolve().parents[1]
RUNS = Path("runs/reproduction")
# What is shown of a run or where it was, and the seed, which a result states beside its configuration.
NOT_THE_PROTOCOL = ("seed_everything", "episode_picture", "answers", "verbose")


@dataclass(frozen=True)
class Training:
    """A configuration trained from one seed, for its own number of outer steps or for fewer.

    Args:
        config: Stem of the file in configs/.
        options: Of the training, beside its configuration.
        seed: Of the weights and the training tasks.
        iterations: Outer steps; None: as the configuration has it.
    """

    config: str
    options: tuple[str, ...]
    seed: int
    iterations: int | None = None

    @classmethod
    def of(cls, cell: Cell, seed: int, iterations: int | None) -> "Training":
        """What a cell is tested on.

        Raises:
            UsageError: If more steps are asked for than its configuration has.
        """
        full = iterations_of(cell.config)
        if iterations is not None and iterations > full:
            raise UsageError(f"{cell.name} takes {full:,} iterations: ITERATIONS must not be above, got {iterations:,}")
        return cls(cell.config, cell.options, seed, None if iterations == full else iterations)

    @property
    def length(self) -> int:
        """Outer steps, at most."""
        return self.iterations or iterations_of(self.config)

    @property
    def title(self) -> str:
        """What a reader calls it."""
        length = "" if self.iterations is None else f", {self.iterations:,} iterations"
        return f"{' '.join([self.config, *self.options])}, seed {self.seed}{length}"

    @property
    def log(self) -> Path:
        """Where its commands' output goes."""
        words = [self.config, *(option.strip("-").rpartition(".")[2] for option in self.options), f"seed{self.seed}"]
        return RUNS / "logs" / f"{'-'.join([*words, *([] if self.iterations is None else [str(self.iterations)])])}.log"

    def fit(self, data: Path | None, resume: bool = True) -> list[str]:
        """The arguments of train.py that train, or go on, and test."""
        length = [] if self.iterations is None else ["--trainer.max_steps", str(self.iterations)]
        where = ["--trainer.default_root_dir", str(RUNS), "--resume", "auto"] if resume else []
        seeded = ["--seed_everything", str(self.seed)]
        return ["fit", "--config", f"configs/{self.config}.yaml", *_root(data), *self.options, *seeded, *length, *where]

    def test(self, cell: Cell, run: RunFolder | None, data: Path | None) -> list[str]:
        """The arguments of train.py that test what the training's run left; None: of no run in particular."""
        tested = "RUN" if run is None else str(tested_checkpoint(run))
        where = [] if run is None else ["--trainer.default_root_dir", str(RUNS)]
        return ["test", "--ckpt_path", tested, *_root(data), *(cell.test_options or ()), *where]


def iterations_of(config: str) -> int:
    """Outer steps of a shipped configuration, at most."""
    return int(yaml.safe_load((ROOT / "configs" / f"{config}.yaml").read_text("utf-8"))["trainer"]["max_steps"])


def tested_checkpoint(run: RunFolder) -> Path:
    """The checkpoint that `fit` has tested, or would."""
    asked = yaml.safe_load(run.config.read_text("utf-8")).get("checkpoint") or {}
    best = None if asked.get("tested") == "last" else best_checkpoint(run)
    return best or run.last_checkpoint


def configuration_hash(*runs: RunFolder) -> str:
    """Twelve digits that two results share if all that was set is the same: not the seed, nor where the data are.

    Args:
        runs: That of the training, and that of the test where it is another.
    """
    kept = []
    for run in runs:
        config = what_is_trained(yaml.safe_load(run.config.read_text("utf-8")))
        (config.get("data") or {}).get("init_args", {}).pop("seed", None)
        kept.append({name: value for name, value in config.items() if name not in NOT_THE_PROTOCOL})
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def _root(data: Path | None) -> list[str]:
    return [] if data is None else ["--data.init_args.root", str(data)]
