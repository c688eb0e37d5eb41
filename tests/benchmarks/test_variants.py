"""What was tried computes the same gradient, leaves every setting as it was, and a failure is a row."""

import dataclasses
import time
from typing import Any

import pytest
import torch
from torch.nn import functional

from benchmarks import render, trial, variants
from benchmarks.cases import Case, Step
from benchmarks.contestants import our_step
from benchmarks.gradient_check import relative_difference
from benchmarks.table import Row
from benchmarks.trial import AS_IS
from benchmarks.variant_steps import VARIANTS, Variant, single_threads, tf32_products
from benchmarks.whole_step import functional_step
from modules.functional.tasks.batch_norm import task_batch_norm
from modules.functional.tasks.per_task import BATCHED_OPERATIONS

CPU, CASE, N_TASKS = torch.device("cpu"), Case(1, 1, 2), 5
HERE = [v for v in VARIANTS if "cpu" in v.expected and not v.compiles and "bfloat16" not in v.name]


def settings() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "norm": BATCHED_OPERATIONS[functional.batch_norm],
    }


@pytest.mark.parametrize("variant", HERE, ids=lambda variant: variant.name)
def test_the_gradient_is_that_of_the_step_as_it_is(variant: Variant) -> None:
    case, before = dataclasses.replace(CASE, dtype=torch.float64), settings()
    gradients = variant.make(case, N_TASKS, CPU)()
    assert relative_difference(gradients, our_step("auto", case, N_TASKS, CPU)()) < 1e-12
    assert settings() == before
    assert before["norm"] is task_batch_norm


def test_the_gradient_of_the_whole_step_is_that_too() -> None:
    case = dataclasses.replace(CASE, dtype=torch.float64)
    gradients = functional_step(case, N_TASKS, CPU, lambda compute: compute)()
    assert relative_difference(gradients, our_step("auto", case, N_TASKS, CPU)()) < 1e-12


def test_bfloat16_is_another_gradient_and_its_setting_ends() -> None:
    (variant,) = (variant for variant in VARIANTS if "bfloat16" in variant.name)
    before = settings()
    gradients = variant.make(Case(1, 1, 1), N_TASKS, CPU)()
    assert 1e-4 < relative_difference(gradients, our_step("auto", Case(1, 1, 1), N_TASKS, CPU)()) < 0.5
    assert settings() == before


def tensors_kept(step: Step) -> int:
    count = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return count


@pytest.mark.parametrize("name", [v.name for v in VARIANTS if v.name.startswith(("autograd's", "checkpointing"))])
def test_the_step_within_a_context_is_another(name: str) -> None:
    """A context that no longer reached the step would change nothing, and its ratio would be 1."""
    (variant,) = (variant for variant in VARIANTS if variant.name == name)
    assert tensors_kept(variant.make(CASE, 2, CPU)) != tensors_kept(our_step("auto", CASE, 2, CPU))


def test_threads_have_one_thread_each_and_the_caller_keeps_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with single_threads(2) as pool:
            assert list(pool.map(lambda _: torch.get_num_threads(), range(4))) == [1] * 4
        assert torch.get_num_threads() == 3
        with pytest.raises(ZeroDivisionError), single_threads(2) as pool:
            list(pool.map(lambda n: 1 // n, [1, 0]))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_tf32_ends_with_its_context() -> None:
    before = torch.get_float32_matmul_precision()
    with tf32_products():
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def try_all(monkeypatch: pytest.MonkeyPatch, tried: list[Variant], seconds: float) -> list[Row]:
    monkeypatch.setattr(variants, "variants", lambda device: tried)
    return variants.measure(Case(1, 1, 1), 2, CPU, seconds)


def fails(case: Case, n_tasks: int, device: torch.device) -> Step:
    raise NotImplementedError("no such thing\nat all")


def doubled(case: Case, n_tasks: int, device: torch.device) -> Step:
    step = our_step("auto", case, n_tasks, device)
    return Step(lambda: {name: 2 * value for name, value in (step(), step())[1].items()})


def test_what_fails_is_a_row_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, twice = (Variant(make.__name__, {"cpu": 1.0}, make) for make in (fails, doubled))
    as_is, failed, slow = try_all(monkeypatch, [broken, twice], 100.0)
    assert (as_is["variant"], as_is["ratio_to_auto"], as_is["gradient_difference"]) == (AS_IS, 1.0, 0.0)
    assert failed["note"] == "failed: no such thing"
    assert "ratio_to_auto" not in failed
    assert slow["gradient_difference"] == pytest.approx(1.0)
    assert slow["ratio_to_auto"] == pytest.approx(0.5, abs=0.5)


def test_what_has_no_time_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, fast, compiled = (
        Variant("slow", {"cpu": 1e-9}, fails),
        Variant("fast", {"cpu": 1.0}, doubled),
        Variant("compiled", {"cpu": 2.0}, fails, compiles=True),
    )
    _, first, second, third = try_all(monkeypatch, [slow, fast, compiled], 100.0)
    assert str(first["note"]).startswith("skipped: too slow for this budget")
    assert second["rounds"]
    assert str(third["note"]).startswith("skipped: compiling")


def sleepy(case: Case, n_tasks: int, device: torch.device) -> Step:
    def step() -> dict[str, torch.Tensor]:
        time.sleep(60.0)
        return {}

    return Step(step)


@pytest.mark.slow
def test_a_process_of_its_own_takes_turns_and_is_ended_where_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LEAST_LIMIT", 12.0)
    monkeypatch.setitem(trial.COMPILING, "cpu", 1.0)
    given_back = next(variant for variant in VARIANTS if not variant.keeps_memory)
    endless = Variant("endless", {"cpu": 1.0}, sleepy, alone=True, compiles=True)
    _, alone, ended = try_all(monkeypatch, [given_back, endless], 12.0)
    assert alone["gradient_difference"] == 0.0
    assert alone["rounds"]
    assert str(ended["note"]).startswith("failed: not finished in")


def test_tables_have_what_was_expected_and_why_there_is_no_figure() -> None:
    common: Row = {"case": "5w1s", "n_tasks": 32}
    text = render.variants_tables(
        [
            common | {"variant": AS_IS, "ratio_to_auto": 1.0, "kept": "yes", "seconds": 0.5, "note": "batched"},
            common | {"variant": "vmap", "expected_ratio": 0.5, "ratio_to_auto": 0.7, "kept": "no", "note": ""},
            common | {"variant": "loop", "expected_ratio": 0.4, "kept": "no", "note": "skipped: too slow"},
        ]
    )
    assert "| vmap | 0.5 | 0.7 | no |" in text
    assert "| loop | 0.4 |  | no |  |  |  | skipped: too slow |" in text
