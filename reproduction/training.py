"""A training that experiments share, and the commands of train.py that make it."""

import re
from dataclasses import dataclass
from pathlib import Path

from app.process.errors import UsageError
from reproduction.experiments import Experiment
from reproduction.shipped import ROOT, iterations_of

RUNS = Path("runs/reproduction")


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
    def of(cls, experiment: Experiment, seed: int, iterations: int | None) -> "Training":
        """Returns what an experiment is tested on.

        Raises:
            UsageError: If more steps are asked for than its configuration has.
        """
        full = iterations_of(experiment.config)
        if iterations is not None and iterations > full:
            raise UsageError(
                f"{experiment.name} takes {full:,} iterations: ITERATIONS must not be above, got {iterations:,}"
            )
        return cls(experiment.config, experiment.options, seed, None if iterations == full else iterations)

    @property
    def length(self) -> int:
        """Outer steps, at most."""
        return self.iterations or iterations_of(self.config)

    @property
    def title(self) -> str:
        """Returns what a reader calls it."""
        length = "" if self.iterations is None else f", {self.iterations:,} iterations"
        return f"{' '.join([self.config, *self.options])}, seed {self.seed}{length}"

    @property
    def log(self) -> Path:
        """Tells where its commands' output goes."""
        return ROOT / RUNS / "logs" / f"{re.sub(r'[^A-Za-z0-9._]+', '-', self.title.replace(',', ''))}.log"

    def what_trains(self) -> list[str]:
        """The arguments of train.py that say what is trained: not from which folder, nor where the run goes."""
        length = [] if self.iterations is None else ["--trainer.max_steps", str(self.iterations)]
        chosen = ["--config", f"configs/{self.config}.yaml", *self.options, "--seed_everything", str(self.seed)]
        return ["fit", *chosen, *length]

    def fit(self, data: Path | None, resume: bool = True) -> list[str]:
        """The arguments of train.py that train and test, or resume what was begun."""
        return [*self.what_trains(), *_places(data), *(["--resume", "auto"] if resume else [])]


def test(experiment: Experiment, checkpoint: str, data: Path | None) -> list[str]:
    """The arguments of train.py that test a checkpoint on an experiment's own tasks."""
    return [*what_tests(experiment, checkpoint), *_places(data)]


def what_tests(experiment: Experiment, checkpoint: str) -> list[str]:
    """The arguments of train.py that say what is tested."""
    return ["test", "--ckpt_path", checkpoint, *(experiment.test_options or ())]


def _places(data: Path | None) -> list[str]:
    root = [] if data is None else ["--data.init_args.root", str(data)]
    return [*root, "--trainer.default_root_dir", str(RUNS)]
