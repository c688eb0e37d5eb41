"""The import directions, sizes and names that the layout promises, read from the sources without importing them."""

import ast
import sys
from pathlib import Path, PurePath

import pytest

ROOT = Path(__file__).resolve().parents[1]
OWN_PACKAGES = {"app", "benchmarks", "datamodules", "deploy", "modules", "reproduction", "tests", "train"}

# Which of our modules each part may import; the longest matching part decides. Tests and benchmarks may import all.
ALLOWED_OWN = {
    "train": {"app"},
    "app": {"app", "modules", "datamodules"},
    "datamodules": {"datamodules"},
    "deploy": {"deploy"},
    "modules": {"modules", *(f"datamodules.{name}" for name in ("augmentation", "counter", "episode", "objective"))},
    "modules.functional": {"modules.functional"},
    "reproduction": {"reproduction", "app"},
    "reproduction.other_ways": {"datamodules", "modules"},
}
# The pure core neither logs nor draws numbers of its own.
IMPURE = {"logging", "random", "secrets", "warnings"}

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 45
NOUNLESS_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}


def is_within(name: str, parts: set[str]) -> bool:
    """Whether dotted ``name`` is one of ``parts`` or lies inside one."""
    return any(name == part or name.startswith(part + ".") for part in parts)


def dotted_name(path: PurePath) -> str:
    """``modules/functional/adapt.py`` -> ``modules.functional.adapt``; an ``__init__.py`` keeps its last part."""
    return ".".join(path.with_suffix("").parts)


def imported_names(module: str, source: str) -> list[str]:
    """Every dotted name that ``module`` imports, at any depth of its source, relative imports resolved."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            base += [node.module] if node.module else []
            names += [".".join([*base, alias.name]) for alias in node.names]
    return names


def forbidden_imports(module: str, source: str) -> list[str]:
    """What ``module`` imports against the layout, one line each."""
    imported = imported_names(module, source)
    top = module.split(".")[0]
    layers = [layer for layer in ALLOWED_OWN if is_within(module, {layer})]
    found = []
    if layers:
        layer = max(layers, key=len)
        own = [name for name in imported if name.split(".")[0] in OWN_PACKAGES]
        found += [name for name in own if not is_within(name, ALLOWED_OWN[layer])]
    if is_within(module, {"modules.functional"}):
        pure = (sys.stdlib_module_names - IMPURE) | OWN_PACKAGES | {"torch"}
        found += [name for name in imported if name.split(".")[0] not in pure]
    if top not in {"app", "tests"}:
        found += [name for name in imported if "wandb" in name.lower()]
    return [f"{module} imports {name}" for name in found]


def long_functions(source: str) -> list[str]:
    """The functions of ``source`` that are longer than the house style allows, decorators not counted."""
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in functions]
    return [f"{name}: {length} lines" for name, length in lengths if length > MAX_FUNCTION_LINES]


def sources() -> dict[PurePath, str]:
    """Every Python file of ours, by its path from the root."""
    files = [ROOT / "train.py"]
    for folder in sorted(OWN_PACKAGES - {"train"}):
        files += sorted((ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in files if path.exists()}


def test_every_layer_is_read() -> None:
    modules = [dotted_name(path) for path in sources()]
    assert [layer for layer in ALLOWED_OWN if not any(is_within(m, {layer}) for m in modules)] == []


def test_imports_point_one_way() -> None:
    assert [line for path, source in sources().items() for line in forbidden_imports(dotted_name(path), source)] == []


def test_files_and_functions_are_short() -> None:
    too_long = []
    for path, source in sources().items():
        if (lines := source.count("\n")) > MAX_FILE_LINES:
            too_long.append(f"{path}: {lines} lines")
        too_long += [f"{path} {function}" for function in long_functions(source)]
    assert too_long == []


def test_files_are_named_for_a_noun() -> None:
    assert [str(path) for path in sources() if NOUNLESS_NAMES & set(path.with_suffix("").parts)] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("train", "from modules.methods.maml import MAML"),
        ("train", "import wandb"),
        ("datamodules.sets.omniglot.omniglot", "from modules.functional import losses"),
        ("datamodules.sets.omniglot.omniglot", "def f():\n    import app.cli"),
        ("datamodules.__init__", "from app import cli"),
        ("modules.methods.maml", "from datamodules import Omniglot"),
        ("modules.methods.maml", "from datamodules.episode_data import EpisodeDataModule"),
        ("modules.methods.maml", "from pytorch_lightning.loggers import WandbLogger"),
        ("modules.functional.adapt", "import pytorch_lightning"),
        ("modules.functional.adapt", "import logging"),
        ("modules.functional.adapt", "from modules.learner.learner import Learner"),
        ("modules.functional.adapt", "from ..base import Learner"),
        ("modules.functional.__init__", "from .. import base"),
        ("modules.functional.adapt", "from datamodules.episode import Episode"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(forbidden_imports(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("train", "from app.cli import main"),
        ("app.loggers", "import wandb\nfrom datamodules.episode_data import EpisodeDataModule"),
        ("datamodules.sets.omniglot.omniglot", "from .base import EpisodeDataModule\nfrom . import counter"),
        ("datamodules.__init__", "from .omniglot import Omniglot"),
        ("modules.methods.maml", "from datamodules.tasks import counter\nfrom datamodules.episode import Episode"),
        ("modules.methods.maml", "from datamodules.objective import Objective"),
        ("modules.methods.maml", "from datamodules.images.augmentation import augment"),
        ("modules.functional.adapt", "import math\nfrom torch import Tensor\nfrom .losses import cross_entropy"),
    ],
)
def test_an_allowed_import_passes(module: str, source: str) -> None:
    assert forbidden_imports(module, source) == []


def test_a_long_function_is_found() -> None:
    body = "    x = 1\n" * MAX_FUNCTION_LINES
    source = f"class C:\n  def f(self):\n{body}\nclass D:\n  def f(self):\n    pass"
    assert long_functions(source) == [f"f: {MAX_FUNCTION_LINES + 1} lines"]
