"""--matmul_precision is set before anything is computed, and stated wherever a run says what it is."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from app.checkpoints.what_is_trained import what_is_trained
from modules import Conv4
from modules.functional.matmul_precision import matmul_precision_on, set_matmul_precision
from tests.app.conftest import Run


@pytest.fixture(autouse=True)
def default_again() -> Iterator[None]:
    yield
    set_matmul_precision("highest")


@pytest.mark.parametrize(("precision", "on_gpu"), [("highest", "ieee"), ("high", "tf32"), ("medium", "tf32")])
def test_products_and_convolutions_are_set_alike(precision: str, on_gpu: str) -> None:
    set_matmul_precision(precision)  # type: ignore[arg-type]
    assert torch.get_float32_matmul_precision() == precision
    assert torch.backends.cudnn.allow_tf32 is (on_gpu == "tf32")
    assert set(matmul_precision_on("cuda").split(", ")) == {on_gpu}
    assert len(set(matmul_precision_on("cpu").split(", "))) == 1


def test_a_run_computes_and_states_its_precision(
    tiny: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(Conv4, "_begin", lambda *_: seen.append(torch.get_float32_matmul_precision()))  # as it is built
    assert run("fit", *tiny, "--trainer.max_steps=2", "--matmul_precision=high").code == 0
    folder = Path("runs/maml_glyphs_5w1s/0")
    assert yaml.safe_load((folder / "config.yaml").read_text())["matmul_precision"] == "high"
    assert json.loads((folder / "results.json").read_text())["matmul_precision"] == "high"

    for options, expected in (((), "high"), (("--matmul_precision=medium",), "medium")):
        ended = run("test", "--ckpt_path", str(folder), *options, "--data.evaluation.n_test_tasks=6")
        assert ended.code == 0
        (results,) = (line.removeprefix("results: ") for line in ended.out.splitlines() if line.startswith("results: "))
        assert json.loads(Path(results).read_text())["matmul_precision"] == expected
    assert seen == ["high", "high", "medium"]


def test_another_precision_is_refused_in_one_line(run: Run) -> None:
    ended = run("fit", "--matmul_precision=lowest")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "highest, high, medium" in ended.err


def test_a_run_of_another_precision_is_another_run() -> None:
    exact, fast = ({"matmul_precision": value} for value in ("highest", "high"))
    assert what_is_trained(exact) != what_is_trained(fast)
