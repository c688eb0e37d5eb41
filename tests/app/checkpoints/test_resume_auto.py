"""`fit --resume auto`: the same command, started again after whatever happened, ends as if nothing had."""

import csv
import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml
from pytorch_lightning import Callback

from app.runs.lock import RunLock
from app.runs.throughput import Throughput
from tests.rank_group import ready_context

RUNS = Path("runs/maml_glyphs_5w1s")
RUN = RUNS / "0"
AUTO = "--resume=auto"
CLOCK = ("tasks_per_second", "wall_time", "command", "checkpoint")  # what two equal runs need not share


@pytest.fixture
def whole(fitted, tiny):
    """What a run that is never stopped leaves."""
    fitted(*tiny, "--trainer.default_root_dir=whole")
    return left_by(Path("whole/maml_glyphs_5w1s/0"))


def left_by(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, str]], dict[str, object]]:
    """Weights, metrics and result of a run."""
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if "tasks_per_second" not in k} for row in csv.DictReader(file)]
    result = json.loads((folder / "results.json").read_text())
    return state, rows, {key: value for key, value in result.items() if key not in CLOCK}


def assert_same(folder: Path, whole) -> None:
    state, rows, result = left_by(folder)
    assert all(torch.equal(value, whole[0][name]) for name, value in state.items())
    assert rows == whole[1]
    assert result == whole[2]


@pytest.fixture
def signal_in(monkeypatch: pytest.MonkeyPatch):
    """Sends this process one signal in a hook of training."""

    def arrange(hook: str, step: int, number: int) -> None:
        sent: list[int] = []

        def send(self: Callback, trainer, *_) -> None:
            if trainer.global_step == step and not sent:
                sent.append(number)
                os.kill(os.getpid(), number)

        monkeypatch.setattr(Throughput, hook, send)

    return arrange


PLACES = [
    ("on_train_start", 0),
    ("on_train_batch_start", 1),
    ("on_train_batch_start", 3),  # the last step: its validation is due then, and there is no step left after it
    ("on_validation_batch_end", 2),
    ("on_validation_batch_end", 4),
    ("on_train_end", 4),
    ("on_test_batch_end", 4),
]


@pytest.mark.parametrize(("hook", "step"), PLACES)
def test_a_signal_anywhere_loses_nothing(run, tiny, whole, signal_in, hook, step):
    signal_in(hook, step, signal.SIGTERM)
    stopped = run("fit", *tiny, AUTO)
    assert stopped.code == 143
    assert stopped.err.startswith("Stopped ")
    assert len(stopped.err.splitlines()) == 1
    ended = run("fit", *tiny, AUTO)
    assert ended.code == 0, ended.err
    assert [path.name for path in RUNS.iterdir()] == ["0"]
    assert_same(RUN, whole)


def test_stopping_in_a_validation_repeats_it(run, tiny, signal_in):
    signal_in("on_validation_batch_end", 2, signal.SIGUSR1)
    stopped = run("fit", *tiny, AUTO)
    assert stopped.code == 138
    assert stopped.err.startswith("Stopped in the validation after step 2. The state is in ")
    assert stopped.err.endswith(f"resume with: python train.py fit {' '.join(tiny)} {AUTO}\n")
    ended = run("fit", *tiny, AUTO)
    assert "Resuming runs/maml_glyphs_5w1s/0 from step 2." in ended.out
    assert "step 2/4" in ended.out


def test_a_finished_run_is_tested_again_and_stays_as_it_is(run, fitted, tiny, whole):
    fitted(*tiny, AUTO)
    ended = run("fit", *tiny, AUTO)
    assert ended.code == 0, ended.err
    assert "Nothing was left to train: the run is at step 4." in ended.out
    assert_same(RUN, whole)


def test_a_run_that_was_stopped_early_stays_so(run, tiny):
    early = (*tiny, "--trainer.max_steps=8", "--model.outer.lr=1e-12", "--early_stopping.patience=1", AUTO)
    assert run("fit", *early).code == 0
    rows = (RUN / "metrics.csv").read_text()
    assert "\n7," not in rows
    ended = run("fit", *early)
    assert "Nothing was left to train: the run is at step 4." in ended.out
    assert (RUN / "metrics.csv").read_text() == rows


def test_another_configuration_gets_a_run_of_its_own(run, fitted, tiny):
    fitted(*tiny)
    assert run("fit", *tiny, "--trainer.max_steps=2", AUTO).code == 0
    assert sorted(path.name for path in RUNS.iterdir()) == ["0", "1"]
    elsewhere = ("--trainer.enable_progress_bar=false", "--checkpoint.every_minutes=1")
    ended = run("fit", *tiny, AUTO, *elsewhere)
    assert "Resuming runs/maml_glyphs_5w1s/0 from step 4: checkpoint.every_minutes 5.0 -> 1.0, " in ended.out
    assert run("fit", *tiny, AUTO, "--seed_everything=1").code == 0
    assert sorted(path.name for path in RUNS.iterdir()) == ["0", "1", "2"]


def test_a_run_without_a_checkpoint_begins_again_in_its_folder(run, fitted, tiny, whole):
    fitted(*tiny, AUTO)
    for path in (RUN / "checkpoints").iterdir():
        path.unlink()
    (RUN / "results.json").unlink()
    ended = run("fit", *tiny, AUTO)
    assert "Resuming runs/maml_glyphs_5w1s/0 from its beginning." in ended.out
    assert_same(RUN, whole)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(run, fitted, tiny, whole, damage):
    fitted(*tiny, "--checkpoint.every_minutes=0", AUTO)
    last = RUN / "checkpoints" / "last.ckpt"
    data = bytearray(last.read_bytes())
    weight = next(iter(torch.load(last, weights_only=True)["state_dict"].values()))
    data[data.find(weight.numpy().tobytes())] ^= 255
    last.write_bytes({"cut": bytes(data[:-1000]), "flipped": bytes(data), "empty": b""}[damage])
    ended = run("fit", *tiny, "--checkpoint.every_minutes=0", AUTO)
    assert ended.code == 0, ended.err
    assert f"{last} is damaged: resuming from {last.with_name('previous.ckpt')} instead." in ended.out
    assert "from step 3." in ended.out
    assert_same(RUN, whole)
    assert last.with_name("damaged-last.ckpt").is_file()


def test_a_damaged_best_checkpoint_is_not_tested(run, fitted, tiny):
    fitted(*tiny, AUTO)
    best = RUN / "checkpoints" / "best-step=2.ckpt"
    best.write_bytes(best.read_bytes()[:-1000])
    ended = run("fit", *tiny, AUTO)
    assert ended.code == 0, ended.err
    assert f"{best} is not a checkpoint, or only a part of one: it is not tested." in ended.out
    assert json.loads((RUN / "results.json").read_text())["checkpoint"] is None


def test_a_checkpoint_that_cannot_be_read_now_is_not_damaged(run, fitted, tiny, monkeypatch):
    fitted(*tiny, AUTO)

    def stale(*_, **__):
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr("app.checkpoints.file.zipfile.ZipFile", stale)
        ended = run("fit", *tiny, AUTO)
    assert ended.code == 1
    assert "Stale file handle" in ended.err
    assert not (RUN / "checkpoints" / "damaged-last.ckpt").exists()
    assert run("fit", *tiny, AUTO).code == 0


def test_a_run_can_be_continued_by_its_path_too(run, tiny, whole, signal_in):
    signal_in("on_train_batch_start", 2, signal.SIGTERM)
    assert run("fit", *tiny, AUTO).code == 143
    ended = run("fit", *tiny, f"--ckpt_path={RUN}/checkpoints/last.ckpt")
    assert ended.code == 0, ended.err
    assert_same(RUN, whole)
    assert run("fit", f"--config={RUN}/config.yaml", "--ckpt_path=last").code == 0
    assert [path.name for path in RUNS.iterdir()] == ["0"]


def test_a_run_that_began_from_another_is_not_taken_for_this_one(run, tiny):
    assert run("fit", *tiny, "--model.inner_lr=0.1", "--trainer.val_check_interval=3").code == 0  # 4 is saved unlogged
    shutil.copy(RUN / "checkpoints" / "last.ckpt", "origin.ckpt")
    assert run("fit", *tiny, "--trainer.max_steps=6", "--ckpt_path=origin.ckpt").code == 0
    assert "ckpt_path: origin.ckpt" in (RUNS / "1" / "config.yaml").read_text()
    with (RUNS / "1" / "metrics.csv").open(newline="") as file:  # nothing of the other run's
        assert [row["step"] for row in csv.DictReader(file) if row["train/loss"]] == ["5", "6"]
    ended = run("fit", *tiny, "--trainer.max_steps=6", AUTO)
    assert "Going on" not in ended.out
    assert (RUNS / "2").is_dir()


def test_a_run_of_a_version_with_fewer_options_is_continued(run, fitted, tiny):
    fitted(*tiny, AUTO)
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    del config["data"]["init_args"]["evaluation"]["leaks"]
    (RUN / "config.yaml").write_text(yaml.safe_dump(config))
    assert "Resuming runs/maml_glyphs_5w1s/0 from step 4." in run("fit", *tiny, AUTO).out


def test_another_checkpoint_callback_does_not_stand_in_the_way(run, tiny, whole, signal_in):
    signal_in("on_train_batch_start", 2, signal.SIGTERM)
    other = '[{"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": {"dirpath": "other"}}]'
    stopped = run("fit", *tiny, AUTO, f"--trainer.callbacks={other}")
    assert stopped.code == 143, stopped.err
    assert run("fit", *tiny, AUTO, f"--trainer.callbacks={other}").code == 0
    assert_same(RUN, whole)


def test_an_outer_step_of_two_batches_is_logged_once(run, tiny, signal_in):
    two = ("--model.outer.accumulate_batches=2", "--data.meta_batch_size=2")
    assert run("fit", *tiny, *two, "--trainer.default_root_dir=whole").code == 0
    signal_in("on_train_batch_start", 2, signal.SIGTERM)  # saved after the first batch of step 3
    assert run("fit", *tiny, *two, AUTO).code == 143
    assert run("fit", *tiny, *two, AUTO).code == 0
    assert_same(RUN, left_by(Path("whole/maml_glyphs_5w1s/0")))


def test_a_run_of_several_epochs_goes_on_in_the_middle_of_one(run, tiny, signal_in):
    epochs = ("--trainer.limit_train_batches=3", "--trainer.max_steps=8", "--trainer.val_check_interval=100")
    assert run("fit", *tiny, *epochs, "--trainer.default_root_dir=whole").code == 0
    signal_in("on_train_batch_start", 4, signal.SIGTERM)
    assert run("fit", *tiny, *epochs, AUTO).code == 143
    assert run("fit", *tiny, *epochs, AUTO).code == 0
    assert_same(RUN, left_by(Path("whole/maml_glyphs_5w1s/0")))


def test_no_sound_checkpoint_is_an_error(run, fitted, tiny):
    fitted(*tiny, AUTO)
    for path in (RUN / "checkpoints").iterdir():
        path.write_bytes(b"")
    ended = run("fit", *tiny, AUTO)
    assert ended.code == 2
    assert "none of the 3 checkpoints of runs/maml_glyphs_5w1s/0 can be read" in ended.err


def test_a_half_written_row_of_metrics_is_dropped(run, tiny, whole, signal_in):
    signal_in("on_train_batch_start", 2, signal.SIGTERM)
    assert run("fit", *tiny, AUTO).code == 143
    with (RUN / "metrics.csv").open("a") as file:
        file.write("3,0.1")
    assert run("fit", *tiny, AUTO).code == 0
    assert_same(RUN, whole)


def hold(folder: Path, held) -> None:
    lock = RunLock()
    lock.acquire(folder)
    held.set()
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_run_that_is_being_trained_is_refused(run, fitted, tiny, monkeypatch):
    fitted(*tiny, "--trainer.max_steps=2", AUTO)
    monkeypatch.setattr("app.runs.lock.WAIT_SECONDS", 0.5)
    context = ready_context()
    held = context.Event()
    process = context.Process(target=hold, args=(RUN, held))
    process.start()
    try:
        assert held.wait(60)
        ended = run("fit", *tiny, "--trainer.max_steps=2", AUTO)
        assert ended.code == 1
        assert f"runs/maml_glyphs_5w1s/0 is being trained by process {process.pid} on " in ended.err
    finally:
        process.kill()  # and the lock is free, whatever the process was doing
        process.join()
    assert run("fit", *tiny, "--trainer.max_steps=2", AUTO).code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--resume=yes"], "expected one of auto"),
        (["--resume=auto", "--ckpt_path=last"], "leave --ckpt_path out"),
    ],
)
def test_wrong_use(run, tiny, arguments, says):
    ended = run("fit", *tiny, *arguments)
    assert ended.code == 2
    assert says in ended.err
    assert ended.err.count("\n") == 1
