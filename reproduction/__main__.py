"""`python -m reproduction`, or `make reproduce`: trains and tests experiments of the papers' tables."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress

from app.process.errors import one_line, one_line_errors
from app.process.signals import StopSignals
from reproduction import record_files
from reproduction.commands import Commands, FailedCommand, StoppedCommand
from reproduction.experiments import Experiment
from reproduction.messages import lines_of_plan, lines_of_result
from reproduction.options import parse
from reproduction.plan import Plan, plan_of
from reproduction.record import make_result, results_of
from reproduction.training import Training, test

DONE, PAUSED, FAILED = "done", "paused", "failed"
NOT_AT_ITS_END = 75  # the exit code: EX_TEMPFAIL, by which a script knows that the same command goes on


def main(arguments: Sequence[str] | None = None) -> None:
    """Reproduces the experiments that are asked for, or all that have no result yet."""
    with one_line_errors(), StopSignals() as signals:
        chosen = parse(arguments)
        plan = plan_of(chosen)
        print("\n".join(lines_of_plan(plan, chosen.iterations)), flush=True)
        outcomes, stopped = run(plan, chosen)
        if paused := outcomes.count(PAUSED):
            again = " without --again" if chosen.again else ""
            print(f"{paused} of {len(plan)} trainings are not at their end: the same command{again} goes on with them.")
        if stopped:
            sys.exit(signals.exit_code)
        if FAILED in outcomes:
            sys.exit(1)
        if paused:
            sys.exit(NOT_AT_ITS_END)


def run(plan: Plan, chosen: argparse.Namespace) -> tuple[list[str], bool]:
    """Runs all trainings and tests, several at once, for some minutes or to their end.

    Returns:
        How each of them ended, and whether a signal has stopped them.
    """
    commands, stopped = Commands(min(chosen.jobs, len(plan))), False
    futures: list[Future[str]] = []
    with ThreadPoolExecutor(chosen.jobs) as pool:
        try:
            futures += [
                pool.submit(reproduce, training, experiments, chosen, commands)
                for training, experiments in plan.items()
            ]
            wait(futures, None if chosen.minutes is None else 60 * chosen.minutes)
        except KeyboardInterrupt:
            stopped = True
        commands.stop()
        while not all(future.done() for future in futures):
            with suppress(KeyboardInterrupt):  # a terminal has sent it to those that train too
                wait(futures)
    return [future.result() for future in futures], stopped


def reproduce(training: Training, experiments: list[Experiment], chosen: argparse.Namespace, commands: Commands) -> str:
    """Trains, and leaves the result of every experiment that is tested on it; says what fails.

    Returns:
        How it ended.
    """
    outcome = DONE
    try:
        if chosen.again:  # a training that is stopped is resumed by the command without this
            for experiment in experiments:
                record_files.remove(experiment, training.seed, training.length, chosen.results)
        trained_in = commands.run(training.fit(chosen.data, not chosen.again), training.log, training.title)
        tested = results_of(trained_in)["checkpoint"] or str(trained_in.last_checkpoint)
        for experiment in experiments:
            try:
                tested_in = trained_in
                if experiment.test_options is not None:
                    tested_in = commands.run(test(experiment, tested, chosen.data), training.log)
                result = make_result(experiment, training, trained_in, tested_in, commands.at_once)
                others = record_files.others_of(experiment, result, chosen.results)
                path = record_files.add(experiment, result, chosen.results)
                print("\n".join(lines_of_result(experiment, result, others, path)), flush=True)
            except FailedCommand as error:
                outcome = _failed(experiment.name, error)
    except StoppedCommand:
        return PAUSED
    except (FailedCommand, OSError, ValueError, KeyError) as error:
        return _failed(training.title, error)
    return outcome


def _failed(what: str, error: Exception) -> str:
    print(f"error: {what}: {one_line(error)}", file=sys.stderr, flush=True)
    return FAILED


if __name__ == "__main__":
    main()
