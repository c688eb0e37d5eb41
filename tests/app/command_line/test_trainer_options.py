"""What the command line refuses of the Trainer before anything is built, also for hardware that is not here."""

from pathlib import Path

import pytest
from pytorch_lightning.accelerators import MPSAccelerator, XLAAccelerator

from app.command_line.trainer_options import DEFAULTS, check_trainer_options
from app.process.errors import UsageError

STRATEGIES = [
    "fsdp",
    "fsdp_cpu_offload",
    "deepspeed",
    "deepspeed_stage_3_offload",
    "xla",
    "single_xla",
    "FSDPStrategy",
    "DeepSpeedStrategy",
    "ModelParallelStrategy",
    "pytorch_lightning.strategies.XLAStrategy",
]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_that_divides_a_learner_is_refused_in_one_line(run, tiny, strategy):
    ended = run("fit", *tiny, f"--trainer.strategy={strategy}")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1, ended.err
    assert f"trainer.strategy {strategy.rpartition('.')[2]} is not supported" in ended.err
    assert "set --trainer.strategy ddp" in ended.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("accelerator", ["mps", "tpu", "MPSAccelerator"])
def test_a_device_without_what_is_needed_is_refused_in_one_line(run, tiny, accelerator):
    ended = run("fit", *tiny, f"--trainer.accelerator={accelerator}")
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert f"trainer.accelerator {accelerator} is not supported" in ended.err
    assert "set --trainer.accelerator cpu" in ended.err


def check(**options) -> None:
    check_trainer_options("test", {**DEFAULTS, "strategy": "auto", **options})


@pytest.mark.parametrize("asked", ["auto", "gpu"])
def test_a_mac_is_told_before_lightning_chooses_its_gpu(monkeypatch, asked):
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    with pytest.raises(UsageError, match=f"trainer.accelerator {asked}, here mps, is not supported"):
        check(accelerator=asked)
    check(accelerator="cpu")


def test_a_tpu_is_told_before_lightning_chooses_it(monkeypatch):
    monkeypatch.setattr(XLAAccelerator, "is_available", staticmethod(lambda: True))
    with pytest.raises(UsageError, match=r"trainer\.accelerator auto, here tpu, is not supported"):
        check()


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_spawn", {"class_path": "lightning.strategies.DDPStrategy"}])
def test_the_usual_ones_are_taken(strategy):
    check(strategy=strategy)
