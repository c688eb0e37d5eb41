"""A checkout whose train.py writes results in milliseconds, so that what is around the training can be tried."""

from pathlib import Path

import pytest
import yaml

from reproduction import commands, shipped, training

TRAIN = """
import json, os, pathlib, signal, sys, time
arguments = sys.argv[1:]
def value(name, default=None):
    return arguments[arguments.index(name) + 1] if name in arguments else default
def stop(number, frame):
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
config = value("--config")
seed = int(value("--seed_everything", 0))
name = pathlib.Path(config).stem if config else pathlib.Path(value("--ckpt_path")).parents[2].name
run = pathlib.Path(value("--trainer.default_root_dir")) / name / str(os.getpid())
(run / "checkpoints").mkdir(parents=True)
steps = int(value("--trainer.max_steps", 60000))
with open("calls", "a") as calls:
    print(*arguments, file=calls)
if pathlib.Path("slow").exists() and arguments[0] == "fit":
    print("training", flush=True)
    pathlib.Path("started").touch()
    time.sleep(60)
if pathlib.Path("broken").exists():
    print("Traceback: something")
    print("error: the disk is full")
    print("a last word")
    sys.exit(1)
(run / "config.yaml").write_text("data: {init_args: {n_way: 5, root: here, seed: %d}}" % seed)
best = run / "checkpoints" / ("best-step=%d.ckpt" % (steps // 2))
best.touch()
(run / "results.json").write_text(json.dumps({
    "accuracy": 0.98 + seed / 1000, "ci95": 0.003, "n_tasks": 600, "global_step": steps,
    "accuracy_transductive": 0.98 + seed / 1000, "ci95_transductive": 0.003,
    "accuracy_inductive": 0.95, "ci95_inductive": 0.004,
    "protocol": {"transductive": "maml" in name, "n_way": 5}, "checkpoint": str(best),
    "wall_time": 60.0, "tasks_per_second": 70.0, "device": "cpu", "precision": "32-true",
    "versions": {"torch": "2.11.0", "quickstudy": "abc"}, "trained_by": [{"commit": "ab"}], "seed": seed,
}))
(run / "metrics.csv").write_text("step,train/loss,val/accuracy\\n500,,0.8\\n550,1.0,\\n1000,,0.91234\\n")
print("results: %s/results.json" % run)
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands are run in."""
    (tmp_path / "train.py").write_text(TRAIN)
    configs = shipped.ROOT / "configs"
    (tmp_path / "configs").symlink_to(configs)
    for module in (commands, training, shipped):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUICKSTUDY_DATA", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def settings():
    """The content of a shipped configuration, by its stem."""

    def of(config: str):
        return yaml.safe_load((shipped.ROOT / "configs" / f"{config}.yaml").read_text("utf-8"))

    return of
