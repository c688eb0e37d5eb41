"""Runs the command line in this process, in a folder of its own, on tasks that take milliseconds."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from wandb.proto import wandb_internal_pb2

from app.cli import main
from app.runs.results import commit
from datamodules import Glyphs
from tests.made_once import made_once

TINY = (
    "--trainer.accelerator=cpu",
    "--trainer.max_steps=4",
    "--trainer.val_check_interval=2",
    "--trainer.log_every_n_steps=1",
    "--data.meta_batch_size=2",
    "--data.evaluation.n_val_tasks=4",
    "--data.evaluation.n_test_tasks=6",
    "--model.backbone.filters=4",
)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def tiny() -> tuple[str, ...]:
    """Options that make any configuration's run take a second."""
    return TINY


@pytest.fixture
def wandb_contents() -> Callable[[Path], tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]]:
    """Reads an offline W&B file: the configuration, the history's rows, the summary."""
    return _contents


@pytest.fixture(scope="session", autouse=True)
def glyphs_are_drawn() -> None:
    """Fills the cache, so that no command says that it draws."""
    Glyphs().prepare_data()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("fit", ...)` in an empty folder, with W&B switched off."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr("sys.argv", ["train.py"])

    def run_main(*arguments: str) -> Ended:
        capfd.readouterr()
        try:
            main(arguments)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        return Ended(code, *capfd.readouterr())

    return run_main


@pytest.fixture
def fitted(run: Run, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`fitted(...)` leaves here what `run("fit", ...)` does: a copy of what was trained when it was first asked for.

    A test that changes how the application trains calls it before the change. No path in a run's folder depends on
    where it is.
    """

    def copy_run(*arguments: str) -> None:
        def train(folder: Path) -> None:
            with monkeypatch.context() as patch:
                patch.chdir(folder)
                ended = run("fit", *arguments)
            assert ended.code == 0, ended.err

        asked = (*arguments, commit())  # which a run states, and which may change while tests run
        name = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
        shutil.copytree(made_once(tmp_path_factory, f"fit_{name}", train), Path(), dirs_exist_ok=True)

    return copy_run


FILE_HEADER, BLOCK, RECORD_HEADER = 7, 32 * 1024, 7


def _records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: a 7-byte header, then a LevelDB log of 32 KiB blocks."""
    data = path.read_bytes()
    position, parts = FILE_HEADER, b""
    while position + RECORD_HEADER <= len(data):
        room = BLOCK - position % BLOCK
        if room < RECORD_HEADER:  # a block's end is padded
            position += room
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + RECORD_HEADER])
        parts += data[position + RECORD_HEADER : position + RECORD_HEADER + length]
        position += RECORD_HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(parts)
            parts = b""
            yield record


def _contents(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """The run's configuration, its history rows, and its summary."""
    config: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for record in _records(path):
        updates = [*record.run.config.update, *record.config.update]
        config |= {_key(item): json.loads(item.value_json) for item in updates}
        if record.history.item:
            history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
        summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
    return config, history, summary


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)
