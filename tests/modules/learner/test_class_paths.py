"""The classes that a checkpoint names are those that are known, and nothing is imported to find out."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

from datamodules import EpisodeDataModule
from modules import Backbone, Learner
from modules.learner.class_paths import UnknownClassError, check_classes

BASES = (Learner, Backbone, EpisodeDataModule)
CONV4 = {"class_path": "modules.Conv4", "init_args": {"filters": 4, "reduce": "mean", "weights": None}}


def maml(**arguments: Any) -> dict[str, Any]:
    return {"class_path": "modules.MAML", "init_args": {"backbone": CONV4, "outer": {"optimizer": "sgd"}} | arguments}


class Own(Backbone):
    """A user's, which passes arguments on that it does not name."""

    def __init__(self, activation: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class OfOwn(Learner):
    """A user's learner."""

    def __init__(
        self, anything: Any = None, untyped=None, backbone: Backbone | None = None, names: list[str] | None = None
    ) -> None:
        raise NotImplementedError


class PassesOn(OfOwn):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


@pytest.mark.parametrize(
    "stored",
    [
        maml(),
        maml(backbone=None),
        {"class_path": "modules.methods.maml.MAML"},
        maml(backbone={"class_path": "modules.Timm", "init_args": {"name": "vit_small_patch16_224.dino"}}),
        {"class_path": "datamodules.Omniglot", "init_args": {"root": "os.path", "evaluation": {"leaks": "warn"}}},
        {"class_path": f"{__name__}.OfOwn", "init_args": {"backbone": {"class_path": f"{__name__}.Own"}}},
        {"class_path": f"{__name__}.OfOwn", "init_args": {"anything": "os.path", "names": ["os.path"], "untyped": "x"}},
    ],
)
def test_what_is_known_is_taken(stored: dict[str, Any]) -> None:
    check_classes("model", stored, BASES)


@pytest.mark.parametrize(
    "stored",
    [
        {"class_path": "hostile.Learner"},
        {"class_path": "os.system"},
        {"class_path": "modules.methods.maml.torch.hub.load"},
        {"class_path": "modules.Conv4.__init__"},
        {"class_path": "modules.Learner"},
        {"class_path": "torch.nn.Sequential"},
        {"class_path": "MAML"},
        {"class_path": ""},
        {"class_path": None},
        {"class_path": ["modules.MAML"]},
        maml(backbone={"class_path": "hostile.Backbone"}),
        maml(backbone={"class_path": "torch.nn.Identity"}),
        maml(backbone="hostile.Backbone"),
        maml(backbone="hostile.yaml"),
        maml(outer="hostile.yaml"),
        maml(outer={"class_path": "hostile.OuterLoop"}),
        maml(outer={"lr": {"class_path": "hostile.X"}}),
        maml(inner_lr=[1, [{"deep": {"class_path": "hostile.X"}}]]),
        maml(unknown="hostile.X"),
        {"class_path": "datamodules.Omniglot", "init_args": {"evaluation": "hostile.yaml"}},
        {"class_path": f"{__name__}.OfOwn", "init_args": {"anything": {"class_path": "hostile.X"}}},
        {"class_path": f"{__name__}.OfOwn", "init_args": {"anything": '{"class_path": "hostile.X"}'}},
        {"class_path": f"{__name__}.OfOwn", "init_args": {"untyped": "hostile.X"}},
        {"class_path": f"{__name__}.OfOwn", "dict_kwargs": {"x": {"class_path": "hostile.X"}}},
        {"class_path": f"{__name__}.PassesOn", "init_args": {"backbone": "hostile.X"}},
        maml(backbone={"class_path": f"{__name__}.Own", "init_args": {"activation": "torch.nn.ReLU"}}),
    ],
)
def test_what_is_not_known_is_refused_and_not_imported(
    stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile.py").write_text("raise SystemExit('this was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    modules = set(sys.modules)
    with pytest.raises(UnknownClassError, match="nothing is imported"):
        check_classes("model", stored, BASES)
    assert set(sys.modules) == modules


def test_a_module_that_imports_when_it_is_asked_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = types.ModuleType("lazy")
    lazy.__getattr__ = lambda name: pytest.fail("it was asked")  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    with pytest.raises(UnknownClassError):
        check_classes("model", {"class_path": "lazy.Learner"}, BASES)


@pytest.mark.parametrize("arguments", ["text", [1], 3])
def test_arguments_of_another_kind_are_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match="where names and values belong"):
        check_classes("model", {"class_path": "modules.MAML", "init_args": arguments}, BASES)


def test_a_value_that_no_configuration_holds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.inner_lr is of the kind bytes"):
        check_classes("model", maml(inner_lr=b"1"), BASES)


def test_what_the_user_has_asked_for_is_taken() -> None:
    stored = maml(backbone={"class_path": "torch.nn.Identity"})
    check_classes("model", stored, BASES, also={"torch.nn.Identity"})


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[3] / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_is_known(file: Path) -> None:
    config = yaml.safe_load(file.read_text("utf-8"))
    for key in {"model", "data"} & config.keys():
        check_classes(key, config[key], BASES)
