"""Kills a training again and again, starts it by the same command, and compares it with one that was left alone.

    python -m tests.chaos --kills 20 --processes 2 -- --config configs/maml_glyphs_5w1s.yaml --trainer.max_steps 100

What follows `--` is given to `train.py fit`, with `--resume auto`. A third of the kills come while a checkpoint is
being written, a third at any moment of the training, a third at any moment since the start. Exit code 0 where nothing
differs.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from app.checkpoints.file import load_sound
from tests.chaos.comparison import differences
from tests.chaos.job import Job

KINDS = ("writing", "training", "any")
PATIENCE = 600.0  # seconds for one start


def run(arguments: list[str], kills: int, n_processes: int, seed: int, folder: Path) -> dict[str, object]:
    """Trains once in peace and once under fire.

    Returns:
        What was done, and under "differences" what differs.
    """
    whole, killed = folder / "whole", folder / "killed"
    whole.mkdir()
    killed.mkdir()
    command = ["fit", *arguments, "--resume", "auto"]
    started = time.monotonic()
    codes = Job(command, whole, n_processes).wait(PATIENCE)
    seconds = time.monotonic() - started
    if any(codes):
        raise SystemExit(f"the undisturbed training failed with {codes}: {whole / 'log.txt'}\n{_tail(whole)}")
    draw = random.Random(seed)
    hits: Counter[str] = Counter()
    starts = 0
    while sum(hits.values()) < kills:
        starts += 1
        finished = any(killed.glob("runs/*/*/results.json"))  # what is left to disturb is the test, which is short
        kind, window = ("any", 0.5) if finished else (KINDS[starts % len(KINDS)], seconds / (0.4 * kills))
        if _killed(Job(command, killed, n_processes), killed, kind, window, draw):
            hits[kind] += 1
        if starts > 10 * kills:
            raise SystemExit(f"only {hits} of {kills} kills came in time: the training is too short")
    codes = Job(command, killed, n_processes).wait(PATIENCE)
    if any(codes):
        raise SystemExit(f"the last start failed with {codes}: {killed / 'log.txt'}\n{_tail(killed)}")
    runs = [[path.parent for path in place.glob("runs/*/*/config.yaml")] for place in (whole, killed)]
    found = [f"{len(runs[1])} run folders"] if len(runs[1]) != 1 else differences(runs[0][0], runs[1][0])
    return {"kills": dict(hits), "starts": starts + 1, "processes": n_processes, "differences": found}


def _killed(job: Job, folder: Path, kind: str, about: float, draw: random.Random) -> bool:
    """Waits for the moment, kills, and checks that the last checkpoint is whole; False where the job ended before.

    A job that ends by itself must have succeeded: then it is left as finished, and more kills hit its test.
    """
    rank = draw.choice([None, *range(len(job.pids))])
    before = _checkpoints(folder)
    deadline = time.monotonic() + draw.uniform(0, about)
    while job.running():
        if kind == "writing" and any(folder.glob("runs/*/*/checkpoints/.*.part")):
            break
        if kind == "training" and _checkpoints(folder) != before:
            kind, deadline = "any", time.monotonic() + draw.uniform(0, about)
        if kind == "any" and time.monotonic() > deadline:
            break
        time.sleep(0.0005)
    alive = job.running()
    job.kill(rank)
    if not alive and any(job.codes.values()):
        raise SystemExit(f"a start failed with {job.codes}\n{_tail(folder)}")
    for path in folder.glob("runs/*/*/checkpoints/last.ckpt"):
        load_sound(path)
    return alive


def _checkpoints(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*/checkpoints/last.ckpt")}


def _tail(folder: Path) -> str:
    return "".join((folder / "log.txt").read_text().splitlines(keepends=True)[-15:])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="how often to kill it (20)")
    parser.add_argument("--processes", type=int, default=1, help="processes of the training (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    own, arguments = sys.argv[1:], []
    if "--" in own:
        own, arguments = own[: own.index("--")], own[own.index("--") + 1 :]
    options = parser.parse_args(own)
    os.environ.setdefault("WANDB_MODE", "disabled")
    import app.application  # noqa: F401  (once, here, for all the processes that are forked)

    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        report = run(arguments, options.kills, options.processes, options.seed, Path(folder))
    print(json.dumps(report))
    sys.exit(bool(report["differences"]))


if __name__ == "__main__":
    main()
