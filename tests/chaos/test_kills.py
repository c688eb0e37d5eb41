"""A run that is killed again and again, started each time by the same command, ends as one that was left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SMALL = (
    "--trainer.accelerator=cpu",
    "--trainer.val_check_interval=5",
    "--trainer.log_every_n_steps=3",
    "--data=Glyphs",
    "--data.n_way=5",
    "--data.n_query=3",
    "--data.meta_batch_size=4",
    "--data.evaluation.n_way=5",
    "--data.evaluation.n_query=3",
    "--data.evaluation.n_val_tasks=8",
    "--data.evaluation.n_test_tasks=16",
    "--model.backbone.filters=4",
    "--checkpoint.every_minutes=0",  # after every step: the kills hit many writings
)
CONFIGS = {"maml": "maml_glyphs_5w1s", "reptile": "reptile_omniglot_5w1s", "protonet": "protonet_omniglot_5w1s"}
FEW_STEPS = ("--model.inner_steps=2", "--model.eval_inner_steps=3")


def chaos(method: str, processes: int, kills: int, steps: int, seed: int = 0) -> dict[str, object]:
    """The tool's report."""
    small = [*SMALL, *(FEW_STEPS if method != "protonet" else ()), f"--trainer.max_steps={steps}"]
    small += ["--trainer.strategy=ddp", f"--trainer.devices={processes}"] if processes > 1 else []
    command = [sys.executable, "-m", "tests.chaos", f"--kills={kills}", f"--processes={processes}", f"--seed={seed}"]
    command += ["--", f"--config=configs/{CONFIGS[method]}.yaml", *small]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    assert done.stdout, done.stderr[-3000:]
    report: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return report


def test_a_few_kills() -> None:
    report = chaos("maml", processes=1, kills=4, steps=12)
    assert report["differences"] == []
    assert sum(report["kills"].values()) == 4  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("method", CONFIGS)
def test_twenty_kills(method: str, processes: int) -> None:
    report = chaos(method, processes, kills=20, steps=60, seed=processes)
    assert report["differences"] == []
    assert sum(report["kills"].values()) == 20  # type: ignore[attr-defined]
    assert all(report["kills"].get(kind, 0) >= 3 for kind in ("writing", "training", "any")), report  # type: ignore[attr-defined]
