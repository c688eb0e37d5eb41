"""Checkpoints made for the purpose: nothing in them is executed, downloaded or written, and each gets one line."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from app.runs.run_checkpoint import RunCheckpoint
from datamodules.images.cache import only_read
from modules import MAML
from tests.app.conftest import TINY, Ended, Run
from tests.made_once import made_once

MARK = "executed"  # the file that a hostile module writes when it is imported
HOSTILE = f"""
import pathlib
pathlib.Path({MARK!r}).touch()
from modules import Backbone, Learner, MAML
class Model(MAML): pass
class Net(Backbone): pass
"""
COMMANDS = ("test", "validate", "predict", "fit")

Change = Callable[[dict[str, Any]], None]
Make = Callable[..., str]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a run of two steps."""
    from app.cli import main

    def train(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WANDB_MODE", "disabled")
            patch.chdir(folder)
            main(["fit", *TINY, "--trainer.max_steps=2"])

    return made_once(tmp_path_factory, "sound", train) / "runs/maml_glyphs_5w1s/0/checkpoints/last.ckpt"


@pytest.fixture
def make(sound: Path, tmp_path: Path) -> Make:
    """Writes the sound checkpoint with one change, where nobody takes it for a run's."""

    def changed(change: Change) -> str:
        checkpoint = torch.load(sound, weights_only=True)
        change(checkpoint)
        torch.save(checkpoint, tmp_path / "hostile.ckpt")
        return str(tmp_path / "hostile.ckpt")

    return changed


@pytest.fixture(autouse=True)
def hostile_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the folder where the command runs, which Python searches first."""
    (tmp_path / "hostile.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    only_read([])
    sys.modules.pop("hostile", None)


def refused(ended: Ended, *words: str) -> None:
    assert ended.code in (1, 2), ended
    assert ended.err.count("\n") == 1, ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err, ended.err
    assert not Path(MARK).exists()


def with_model(class_path: Any) -> Change:
    return lambda c: c["hyper_parameters"].update(_class_path=class_path)


def with_backbone(backbone: Any) -> Change:
    return lambda c: c["hyper_parameters"].update(backbone=backbone)


def with_data(**arguments: Any) -> Change:
    return lambda c: c["datamodule_hyper_parameters"].update(arguments)


FOREIGN: dict[str, Change] = {
    "model": with_model("hostile.Model"),
    "function": with_model("os.system"),
    "through a module of ours": with_model("modules.methods.maml.torch.hub.load"),
    "backbone": with_backbone({"class_path": "hostile.Net", "init_args": {}}),
    "backbone as text": with_backbone("hostile.Net"),
    "deep": with_backbone({"class_path": "modules.Conv4", "init_args": {"filters": [{"class_path": "hostile.Net"}]}}),
    "settings": lambda c: c["hyper_parameters"].update(outer={"class_path": "hostile.Net"}),
    "data": with_data(_class_path="hostile.Data"),
    "evaluation": with_data(evaluation={"class_path": "hostile.Net"}),
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_class_is_named_and_not_imported(make: Make, run: Run, change: Change) -> None:
    refused(run("test", "--ckpt_path", make(change)), "nothing is imported", "name it yourself: --")
    assert "hostile" not in sys.modules


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_imports_it(make: Make, run: Run, command: str) -> None:
    run(command, "--ckpt_path", make(with_model("hostile.Model")), "--trainer.max_steps=1")
    assert not Path(MARK).exists()
    assert "hostile" not in sys.modules


def test_a_class_that_the_user_names_is_the_users_own(make: Make, run: Run) -> None:
    path = make(with_model("hostile.Model"))
    ended = run("test", "--ckpt_path", path, "--model=hostile.Model", "--data.evaluation.n_test_tasks=2")
    assert ended.code == 0, ended.err
    assert Path(MARK).exists()


def test_python_imports_nothing_either(make: Make) -> None:
    path = make(with_backbone({"class_path": "hostile.Net", "init_args": {}}))
    with pytest.raises(ValueError, match="nothing is imported"):
        MAML.load_from_checkpoint(path, weights_only=True)
    assert not Path(MARK).exists()


OMNIGLOT = {"_class_path": "datamodules.Omniglot", "cache": None}


def everything_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("download", [True, None], ids=["asked for", "left at its default"])
def test_nothing_is_downloaded_and_no_folder_made(
    make: Make, run: Run, tmp_path: Path, download: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("it was downloaded"))
    root = tmp_path / "chosen" / "by" / "the checkpoint"

    def change(checkpoint: dict[str, Any]) -> None:
        arguments = checkpoint["datamodule_hyper_parameters"]
        del arguments["cache"]
        arguments |= {"_class_path": "datamodules.Omniglot", "root": str(root)}
        arguments |= {} if download is None else {"download": download}

    path, before = make(change), everything_in(tmp_path)
    refused(run("test", "--ckpt_path", path), "data.download is false", "set data.root", str(root))
    assert everything_in(tmp_path) == before


def test_a_download_that_the_user_asks_for_is_the_users_own(
    make: Make, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(url: str, *_: Any, **__: Any) -> None:
        asked.append(url)
        raise OSError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", refuse)

    def change(checkpoint: dict[str, Any]) -> None:
        del checkpoint["datamodule_hyper_parameters"]["cache"]
        checkpoint["datamodule_hyper_parameters"] |= {"_class_path": "datamodules.Omniglot", "root": "x"}

    run("test", "--ckpt_path", make(change), "--data.download=true", "--data.root", str(tmp_path / "mine"))
    assert asked


@pytest.mark.parametrize("given", [False, True], ids=["by the checkpoint", "by the user"])
def test_a_cache_is_written_only_where_the_user_says(
    make: Make, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    chosen = tmp_path / "chosen"
    monkeypatch.setattr("datamodules.sets.glyphs.glyphs._draw_on_one_thread", few_glyphs)
    options = (f"--data.cache={chosen}",) if given else ()
    run("test", "--ckpt_path", make(with_data(cache=str(chosen))), *options, "--data.evaluation.n_test_tasks=2")
    assert chosen.exists() is given
    assert any((tmp_path / "own").rglob("*.bank")) is not given


def few_glyphs() -> Any:
    """In place of the drawing of all, which takes a while."""
    from datamodules.images.bank import ImageBank

    names = [f"{script}/{n}" for script in ("Latin", "Greek", "Cyrillic") for n in range(8)]
    return ImageBank.from_sizes(torch.zeros(24 * 20, 1, 28, 28, dtype=torch.uint8), names, [20] * 24)


ODD: dict[str, tuple[Change, str]] = {
    "negative ways": (with_data(n_way=-5), "n_way"),
    "no queries": (with_data(n_query=0), "n_query"),
    "negative filters": (
        with_backbone({"class_path": "modules.Conv4", "init_args": {"filters": -4}}),
        "",
    ),
    "huge filters": (with_backbone({"class_path": "modules.Conv4", "init_args": {"filters": 2**40}}), ""),
    "text for a number": (lambda c: c["hyper_parameters"].update(inner_lr="much"), "inner_lr"),
    "an unknown argument": (lambda c: c["hyper_parameters"].update(innner_lr=1.0), "innner_lr"),
    "an object for a number": (lambda c: c["hyper_parameters"].update(inner_lr=torch.ones(2)), "inner_lr"),
    "not a number of steps": (lambda c: c.update(global_step="many"), "global_step"),
    "no such objective": (lambda c: c.update(objective="guess"), "guess"),
    "no arguments": (lambda c: c.update(hyper_parameters=None), "configuration"),
    "a class that is a number": (with_model(5), "configuration"),
    "a home that nobody has": (with_data(_class_path="datamodules.Omniglot", root="~no-such-user/x"), "--data.root"),
    "a place with a NUL": (with_data(_class_path="datamodules.Omniglot", root="a\0b"), "--data.root"),
    "a network to be fetched": (
        with_backbone({"class_path": "modules.Timm", "init_args": {"name": "hf-hub:some/thing", "pretrained": True}}),
        "hf-hub",
    ),
}


@pytest.mark.parametrize(("change", "word"), ODD.values(), ids=ODD)
def test_odd_values_get_one_line(make: Make, run: Run, change: Change, word: str) -> None:
    refused(run("test", "--ckpt_path", make(change)), word)


@pytest.mark.parametrize("name", ["../../mine.txt", "mine.ckpt", "best-step=1.ckpt/../../mine.txt", 5])
def test_files_of_others_are_not_taken_for_its_checkpoints(tmp_path: Path, name: Any) -> None:
    """They would be removed as soon as a better one came."""
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    for file in (tmp_path / "mine.txt", folder / "mine.ckpt", folder / "best-step=2.ckpt"):
        file.touch()
    checkpoint = RunCheckpoint()
    checkpoint.dirpath = str(folder)
    checkpoint.load_state_dict({"best": {name: 0.1, "best-step=2.ckpt": 0.2}, "best_of_all": name})
    assert list(checkpoint.best_k_models) == [str(folder / "best-step=2.ckpt")]
