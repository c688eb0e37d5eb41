"""The state that a `fit` begins from: a checkpoint's, or that of the newest run of its own configuration."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from app.checkpoints.configuration import read_checkpoint
from app.checkpoints.resumable_runs import sound_state
from app.checkpoints.resume_decision import (
    WEIGHTS,
    Beginning,
    Difference,
    Training,
    beginning_of,
    differences,
    unexpected_length,
)
from app.checkpoints.stored_configuration import IDENTITY, shapes_of, training_of
from app.process.errors import UsageError, process_rank
from app.runs.folder import LAST, RunFolder, configuration_of, run_of
from app.runs.lock import RunLock
from modules import Learner

NETWORK, BACKBONE = "network.", "network.backbone."  # a backbone's place in learners without and with an output layer
SHOWN = 3  # weights in a line


@dataclass
class FitOrigin:
    """A state to begin from, and what begins there.

    Args:
        path: The checkpoint; None where a run has none yet.
        contents: What is in it.
        run: The run whose newest state it is; None where it is an older one, or lies in no run's folder.
        damaged: Newer checkpoints of the run that cannot be read.

    Attributes:
        beginning: What begins there; decided when the data are read.
        differences: What is not as in the training that wrote the checkpoint.
        fitting: What was taken of it by a run that begins at step 0, as a line has it.
    """

    path: Path | None
    contents: dict[str, Any] | None
    run: RunFolder | None
    damaged: list[Path] = field(default_factory=list)
    beginning: Beginning | None = None
    differences: list[Difference] = field(default_factory=list)
    fitting: str = ""

    @classmethod
    def at(cls, checkpoint: Path) -> "FitOrigin":
        """The state in a checkpoint; where it is a run's last and damaged, in the one before."""
        run = run_of(checkpoint) if checkpoint.name == LAST else None
        state = sound_state(run) if run is not None else None
        if state is None:
            return cls(checkpoint, read_checkpoint(checkpoint), None)
        return cls(state[0], state[1], run, state[2])

    @classmethod
    def of_run(cls, run: RunFolder) -> "FitOrigin":
        """A run's newest sound state."""
        path, contents, damaged = sound_state(run) or (None, None, [])
        return cls(path, contents, run, damaged)

    @property
    def step(self) -> int:
        """The outer step at which training begins."""
        begins_anew = self.contents is None or self.beginning is Beginning.AT_STEP_0
        return 0 if begins_anew else int(self.contents["global_step"])  # type: ignore[index]

    def decide(self, now: Training, learned: Sequence[str] = ()) -> None:
        """Decides what begins here.

        Args:
            now: The training that is asked for.
            learned: The learner's arguments whose place learned values take.

        Raises:
            UsageError: If nothing can begin here with these options.
        """
        assert self.contents is not None
        before = training_of(self.contents)
        try:
            self.beginning, self.differences = beginning_of(before, now, self.run is not None)
        except ValueError as error:
            raise UsageError(f"--ckpt_path {self.path}: {error}") from error
        if _weights_file(now.config) and _weights_file(now.config) != _weights_file(before.config):
            raise UsageError(f"--{WEIGHTS} and --ckpt_path both give the network its weights: leave one of them out")
        if self.beginning is Beginning.AT_ITS_STEP:
            for difference in self.differences:
                if difference.name.removeprefix("model.") in learned:
                    raise UsageError(
                        f"--ckpt_path {self.path}: {difference}: the checkpoint has learned other values in its place. "
                        f"Leave it as it was, or begin from the checkpoint's weights alone by --{WEIGHTS}"
                    )
        wrong = unexpected_length(self.contents["global_step"], now.config["trainer"]["max_steps"], self.beginning)
        if wrong:
            raise UsageError(f"--ckpt_path {self.path}: {wrong}")
        if self.beginning is not Beginning.SAME_RUN:
            self.run, self.damaged = None, []

    def is_of(self, now: Training) -> bool:
        """Tells whether a run with the configuration that is asked for has the same data and the same weights too.

        Of a run without a checkpoint, its data must be configured alike: nothing else says which they were.
        """
        if self.contents is None:
            assert self.run is not None
            stored = configuration_of(self.run) or {}
            return not any(d.name.startswith("data.") for d in differences(stored, now.config))
        known = str(self.contents.get(IDENTITY, ""))
        return (not known or known == now.data) and shapes_of(self.contents["state_dict"]) == now.shapes

    def claim(self, lock: RunLock) -> None:
        """Takes the right to write into the run's folder, and its newest state from there.

        A process that is about to end may still have written one while this one waited for it.
        """
        assert self.run is not None
        if process_rank() == 0:
            lock.acquire(self.run.path)
        newest = FitOrigin.of_run(self.run)
        self.path, self.contents, self.damaged = newest.path, newest.contents, newest.damaged

    def give_weights(self, model: Learner) -> None:
        """Gives a new learner the weights and buffers that fit it, by name and shape.

        Raises:
            UsageError: If none does.
        """
        assert self.contents is not None
        own = model.state_dict()
        taken, left = fitting_weights(self.contents["state_dict"], own)
        if not any(value.dim() > 1 for value in taken.values()):  # a bias alone carries nothing
            raise UsageError(
                f"--ckpt_path {self.path}: none of its weights fits this network: set the model as it was trained, or "
                "leave --ckpt_path out"
            )
        model.load_state_dict(taken, strict=False)
        model.take_trained(self.contents)
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        others = f"; not {', '.join(left[:SHOWN])}{more}" if left else ""
        self.fitting = f"{len(taken)} of the network's {len(own)} weights and buffers fit{others}"

    def line(self, run: RunFolder) -> str:
        """Describes the run that begins in one line for the reader.

        Args:
            run: Where it goes.
        """
        changes = f": {', '.join(map(str, self.differences))}" if self.differences else ""
        if self.beginning is Beginning.SAME_RUN:
            step = "from its beginning" if self.contents is None else f"from step {self.step:,}"
            return f"Resuming {run.path} {step}{changes}."
        origin = os.path.relpath(str(self.path))
        if self.beginning is Beginning.AT_ITS_STEP:
            return f"A new run in {run.path} resumes from step {self.step:,} of {origin}{changes}."
        return f"A new run in {run.path} begins at step 0 with the weights of {origin}{changes}. {self.fitting}."


def fitting_weights(state: dict[str, Tensor], own: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that a learner can take from another, whose backbone may lie beside an output layer or alone.

    Args:
        state: The other's state_dict.
        own: The learner's.

    Returns:
        Those that fit by name and shape, by the learner's names; the learner's names that none fits.
    """
    taken: dict[str, Tensor] = {}
    for name, value in own.items():
        inside = name.removeprefix(BACKBONE).removeprefix(NETWORK)
        names = [name, BACKBONE + inside, NETWORK + inside] if name.startswith(NETWORK) else [name]
        found = next((state[other] for other in names if other in state), None)
        if found is not None and found.shape == value.shape:
            taken[name] = found
    return taken, [name for name in own if name not in taken]


def first_of(runs: Sequence[RunFolder], now: Training) -> FitOrigin | None:
    """The first of several runs that is the one that is asked for, to resume."""
    for run in runs:
        origin = FitOrigin.of_run(run)
        if origin.is_of(now):
            origin.beginning = Beginning.SAME_RUN
            origin.differences = differences(configuration_of(run) or {}, now.config)
            return origin
    return None


def _weights_file(config: dict[str, Any]) -> str | None:
    """The file that a configured backbone begins from."""
    backbone = ((config.get("model") or {}).get("init_args") or {}).get("backbone") or {}
    return (backbone.get("init_args") or {}).get("weights")
