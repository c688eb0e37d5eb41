"""What there is to do: the trainings of the experiments that have no result yet."""

import argparse

from app.command_line.arguments import did_you_mean
from app.process.errors import UsageError
from reproduction import record_files
from reproduction.experiments import EXPERIMENTS, Experiment
from reproduction.shipped import iterations_of
from reproduction.training import Training

Plan = dict[Training, list[Experiment]]


def plan_of(chosen: argparse.Namespace) -> Plan:
    """The trainings that are needed, each with the experiments that are tested on it.

    Args:
        chosen: What `parse` returned.

    Raises:
        UsageError: If an experiment is unknown, or named and has fewer iterations than are asked for.
    """
    for name in chosen.experiments:
        if name not in EXPERIMENTS:
            meant = did_you_mean(name, EXPERIMENTS) or "; ARGS=--list names all"
            raise UsageError(f"there is no experiment {name}{meant}")
    plan: Plan = {}
    for experiment in [EXPERIMENTS[name] for name in chosen.experiments or EXPERIMENTS]:
        for seed in chosen.seeds or experiment.seeds:
            training = Training.of(experiment, seed, _length(experiment, chosen))
            if chosen.again or not record_files.has(experiment, seed, training.length, chosen.results):
                plan.setdefault(training, []).append(experiment)
    return plan


def _length(experiment: Experiment, chosen: argparse.Namespace) -> int | None:
    """Returns what is asked for; of all experiments at once, each one's own where it has fewer."""
    if chosen.iterations is None or chosen.experiments:
        return chosen.iterations
    return min(chosen.iterations, iterations_of(experiment.config))
