"""Runs that stop and go on: bitwise the same as one that never stopped."""

import csv
import inspect
import os
import signal
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback

from app.runs.throughput import Throughput
from tests.every_learner import OF_IMAGES

RUN = Path("runs/maml_glyphs_5w1s/0")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def steps_of(run: Path, column: str) -> list[int]:
    with (run / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row[column]]


@pytest.fixture
def signal_at_step(monkeypatch: pytest.MonkeyPatch):
    """Sends this process a signal in the middle of training, as Ctrl-C or a cluster does."""

    def arrange(step: int, number: int) -> None:
        def on_train_batch_start(self: Callback, trainer, *_) -> None:
            if trainer.global_step == step - 1:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(Throughput, "on_train_batch_start", on_train_batch_start)

    return arrange


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_interrupted_run_continues_bitwise(run, fitted, tiny, signal_at_step, number, code):
    fitted(*tiny, "--trainer.default_root_dir=whole")
    handler = signal.getsignal(number)
    signal_at_step(3, number)
    stopped = run("fit", *tiny)
    assert stopped.code == code
    assert stopped.err.startswith(
        "Stopped after step 3. The state is in runs/maml_glyphs_5w1s/0/checkpoints/last.ckpt; resume with: python"
    )
    assert len(stopped.err.splitlines()) == 1
    assert signal.getsignal(number) == handler
    signal_at_step(0, number)  # never

    command = stopped.err.partition("train.py ")[2].split()
    assert run(*command).code == 0
    whole = weights(Path("whole/maml_glyphs_5w1s/0"))
    assert all(torch.equal(value, whole[name]) for name, value in weights(RUN).items())
    assert steps_of(RUN, "train/loss") == [1, 2, 3, 4]


QUICK = ("BaselinePlusPlus", "RelationNetwork")  # of labelled examples, and of two networks


@pytest.mark.parametrize(
    "kind",
    [kind if kind.__name__ in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in OF_IMAGES],
    ids=lambda kind: kind.__name__,
)
@pytest.mark.parametrize("option", ["--resume=auto", "--ckpt_path=last"])
def test_every_learner_resumes_its_run(run, kind, option):
    signature = inspect.signature(kind).parameters
    few = {name: 2 for name in ("eval_inner_steps", "directions", "inner_directions") if name in signature}
    options = ["--data=Glyphs", "--data.meta_batch_size=2", "--data.n_query=2", "--data.evaluation.n_val_tasks=4"]
    options += ["--data.evaluation.n_test_tasks=4", "--trainer.val_check_interval=1", "--trainer.accelerator=cpu"]
    options += [f"--model.{name}={value}" for name, value in few.items()]
    options += ["--model.backbone.filters=4", "--model.outer.schedule=constant"]  # others end with the last step
    fit = ("fit", f"--model={kind.__name__}", *options)
    for steps, how in ((2, ()), (3, (option,))):
        ended = run(*fit, f"--trainer.max_steps={steps}", *how)
        assert ended.code == 0, ended.err
        (folder,) = Path("runs").glob("*/*")  # the one run
        assert folder.name == "0"
        assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == steps


def test_last_continues_the_newest_run(run, fitted, tiny):
    fitted(*tiny, "--trainer.max_steps=2")
    ended = run("fit", *tiny, "--ckpt_path=last")
    assert ended.code == 0, ended.err
    assert [path.name for path in RUN.parent.iterdir()] == ["0"]
    assert steps_of(RUN, "train/loss") == [1, 2, 3, 4]
    fitted(*tiny, "--trainer.default_root_dir=whole")
    whole = weights(Path("whole/maml_glyphs_5w1s/0"))
    assert all(torch.equal(value, whole[name]) for name, value in weights(RUN).items())


def test_last_without_a_run_is_refused(run, tiny):
    ended = run("fit", *tiny, "--ckpt_path=last")
    assert ended.code == 2
    assert "there is no run of maml_glyphs_5w1s in runs/: leave --ckpt_path out, or set --resume auto" in ended.err
    assert not RUN.exists()


def test_rows_of_repeated_steps_are_dropped(run, fitted, tiny):
    fitted(*tiny, "--trainer.max_steps=2")
    older = (RUN / "checkpoints" / "last.ckpt").read_bytes()
    assert run("fit", *tiny, "--ckpt_path=last").code == 0
    (RUN / "checkpoints" / "last.ckpt").write_bytes(older)
    assert run("fit", *tiny, "--ckpt_path=last").code == 0
    assert steps_of(RUN, "train/loss") == [1, 2, 3, 4]


def test_continuing_with_other_settings_says_which(run, fitted, tiny):
    fitted(*tiny, "--trainer.max_steps=2")
    ended = run("fit", *tiny, "--ckpt_path=last", "--model.inner_lr=0.1")
    assert ": model.inner_lr 0.4 -> 0.1, trainer.max_steps 2 -> 4.\n" in ended.out


def test_stopping_before_the_first_validation_tests_the_last_weights(run, tiny):
    ended = run("fit", *tiny, "--trainer.max_steps=1")
    assert ended.code == 0, ended.err
    assert "No validation came before the end" in ended.out
    assert "test accuracy" in ended.out
    assert (RUN / "checkpoints" / "last.ckpt").is_file()
    assert not list((RUN / "checkpoints").glob("best*"))


def test_early_stopping_is_off_until_asked_for(run, tiny):
    long = ("--trainer.max_steps=8", "--trainer.val_check_interval=1", "--model.outer.lr=1e-12")
    assert run("fit", *tiny, *long).code == 0
    assert len(steps_of(RUN, "val/accuracy")) == 8
    assert run("fit", *tiny, *long, "--early_stopping.patience=2").code == 0
    assert len(steps_of(RUN.parent / "1", "val/accuracy")) < 8
    names = sorted(path.name for path in (RUN / "checkpoints").iterdir())
    assert names == ["best-step=1.ckpt", "last.ckpt", "previous.ckpt"]
