"""Which variants of the outer step can be timed on a case within the time that there is."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import torch

from benchmarks import memory
from benchmarks.cases import Case, Gradients, Step
from benchmarks.contestants import our_step
from benchmarks.fresh_process import FreshProcess
from benchmarks.gradient_check import relative_difference
from benchmarks.table import Row
from benchmarks.timing import MIN_ROUNDS, once
from benchmarks.variant_steps import Variant

AS_IS = "as it is (auto)"
COMPILING = {"cpu": 300.0, "cuda": 15.0}  # seconds, with fewer of which compiling is not tried
STARTING = 5.0  # seconds that fresh processes take until they compute
LEAST_LIMIT = 30.0  # seconds that a call in a fresh process may take


@dataclass
class Trial:
    """One case: the steps that will be timed, and why the others will not.

    Args:
        case: The case.
        n_tasks: T.
        device: Where it is computed.
        end: Of the case's share of the time, on `time.perf_counter`'s clock.
        call: Seconds that a call of the step as it is takes.
        planned: Seconds that the rounds of `steps` will take.
        waiting: Seconds that the variants not yet tried will take if they are as fast as expected.
        steps: By the variant's name, and for each that is computed alone also the step as it is beside it.
        figures: Variant -> what its first call showed.
        notes: Variant -> for its row.
    """

    case: Case
    n_tasks: int
    device: torch.device
    end: float
    call: float = 0.0
    planned: float = 0.0
    waiting: float = 0.0
    steps: dict[str, Step] = field(default_factory=dict)
    figures: dict[str, Row] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    _gradients: dict[str, Gradients] = field(default_factory=dict)

    def left(self) -> float:
        """Seconds that nothing is planned for."""
        return self.end - time.perf_counter() - self.planned

    def expected_call(self, variant: Variant) -> float:
        """Seconds that a call takes if the variant is as fast as expected."""
        return self.call / variant.expected[self.device.type]

    def cost(self, variant: Variant) -> float:
        """Seconds that trying and timing the variant takes if it is as fast as expected."""
        calls = self.expected_call(variant) + (self.call if variant.alone else 0.0)
        return calls * (1 + MIN_ROUNDS) + (STARTING if variant.alone else 0.0)

    def first_call(self, name: str, step: Step, beside: str) -> float:
        """Enters a step, and compares its gradient with that of another.

        Args:
            name: The step's.
            step: What will be timed.
            beside: The name of the step as it is that this one is compared with; its own, where it is that itself.

        Returns:
            Seconds that the call took.
        """
        calls: list[Gradients] = []
        start = time.perf_counter()
        peak = memory.peak_during(lambda: calls.append(step()), self.device)
        seconds = time.perf_counter() - start
        difference = relative_difference(calls[0], self._gradients.setdefault(beside, calls[0]))
        self.figures[name] = {"gradient_difference": difference, "peak_mib": None if peak is None else peak / 2**20}
        self.steps[name] = step
        return seconds


def beside(variant: Variant) -> str:
    """The name of the step as it is that a variant is compared with."""
    return f"{AS_IS} beside {variant.name}" if variant.alone else AS_IS


def start(trial: Trial) -> Step:
    """Enters the step as it is."""
    step = our_step("auto", trial.case, trial.n_tasks, trial.device)
    trial.first_call(AS_IS, step, AS_IS)
    trial.call = once(step, trial.device)
    trial.planned = trial.call * MIN_ROUNDS
    return step


def enter(trial: Trial, variant: Variant, stack: ExitStack) -> None:
    """Enters a variant for the rounds, or notes why not.

    Args:
        trial: Where it takes part.
        variant: What is tried.
        stack: Ends its processes after the rounds.
    """
    try:
        note = _entered(trial, variant, stack)
    except Exception as error:  # a compiler's, a process's, memory: whatever it is, the others go on
        lines = str(error).strip().splitlines() or [type(error).__name__]
        note = f"failed: {lines[0][:100]}"
    if note:
        trial.notes[variant.name] = note
        for name in {variant.name, beside(variant)} - {AS_IS}:
            trial.steps.pop(name, None)


def _entered(trial: Trial, variant: Variant, stack: ExitStack) -> str | None:
    """None, or why the variant is left out."""
    if variant.compiles:
        if trial.left() < COMPILING[trial.device.type]:
            return "skipped: compiling takes minutes; raise --budget"
    elif trial.cost(variant) > trial.left():
        return f"skipped: too slow for this budget, about {trial.expected_call(variant):.1f} s a step; raise --budget"
    setting = (trial.case, trial.n_tasks, trial.device)
    if not variant.alone:
        call = trial.first_call(variant.name, variant.make(*setting), AS_IS)
    else:
        limit = max(LEAST_LIMIT, trial.left())
        other, own = (stack.enter_context(FreshProcess(keeps, trial.device)) for keeps in (True, variant.keeps_memory))
        as_is = other.step(partial(our_step, "auto"), *setting, limit)
        trial.planned += trial.first_call(beside(variant), as_is, beside(variant)) * MIN_ROUNDS
        call = trial.first_call(variant.name, own.step(variant.make, *setting, limit), beside(variant))
        trial.figures[variant.name]["peak_mib"] = None  # this process's, and not theirs
    if variant.compiles:
        trial.figures[variant.name]["compile_seconds"] = call
        call = trial.expected_call(variant)
    # One far slower than expected must not take the time of those after it.
    waiting = trial.waiting if call > 2 * trial.expected_call(variant) else 0.0
    if call * MIN_ROUNDS > trial.left() - waiting:
        return f"skipped: too slow for this budget, {call:.1f} s for its first step; raise --budget"
    trial.planned += call * MIN_ROUNDS
    return None
