"""The import directions, sizes and names that the layout promises, read from the sources without importing them."""

import ast
import graphlib
import sys
from itertools import pairwise
from pathlib import Path, PurePath

import pytest

ROOT = Path(__file__).resolve().parents[1]
OWN_PACKAGES = {"app", "benchmarks", "datamodules", "deploy", "modules", "reproduction", "tests", "train"}

# The folders of the application from the lowest: each may import itself and those before it, and learners and data.
APP_LAYERS = ["app.process", "app.files", "app.runs", "app.checkpoints", "app.user_classes", "app.command_line"]
APPLICATION = {*APP_LAYERS, "app.dashboards", "modules", "datamodules"}
BELOW_IMAGES = {
    f"datamodules.{name}" for name in ("tasks", "episode_data", "episode", "objective", "progress", "settings")
}
BELOW_METHODS = {
    *("modules.learner", "modules.backbones", "modules.functional"),
    *("datamodules.episode", "datamodules.objective", "datamodules.tasks.counter", "datamodules.images.augmentation"),
}

# Which of our modules each part may import; the longest matching part decides. Tests and benchmarks may import all.
ALLOWED_OWN: dict[str, set[str]] = {
    "train": {"app"},
    **{layer: {*APP_LAYERS[: number + 1], "modules", "datamodules"} for number, layer in enumerate(APP_LAYERS)},
    "app": {"app"},
    "app.process": {"app.process"},
    "app.files": {"app.process", "app.files"},
    "app.dashboards": {"app.process", "app.files", "app.runs", "app.dashboards", "modules", "datamodules"},
    "app.application": APPLICATION,
    "app.export_command": {*APPLICATION, "app.application"},
    "datamodules": {"datamodules"},
    "datamodules.episode": set(),
    "datamodules.objective": set(),
    "datamodules.progress": set(),
    "datamodules.settings": set(),
    "datamodules.tasks": {"datamodules.tasks", "datamodules.episode"},
    "datamodules.episode_data": BELOW_IMAGES - {"datamodules.episode_data"},
    "datamodules.images": {*BELOW_IMAGES, "datamodules.images"},
    "datamodules.sets": {*BELOW_IMAGES, "datamodules.images", "datamodules.sets"},
    "deploy": {"deploy"},
    "modules": {"modules"},
    "modules.methods": {*BELOW_METHODS, "modules.methods"},
    "modules.learner": BELOW_METHODS,
    "modules.backbones": {"modules.backbones", "modules.functional"},
    "modules.functional": {"modules.functional"},
    "reproduction": {"reproduction", "app"},
}
# Within these no file imports itself by way of others.
WITHOUT_CIRCLES = ("app", "benchmarks", "datamodules", "modules", "reproduction")
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


def file_of(name: str, modules: set[str]) -> str | None:
    """Returns the module of ours that an imported dotted name is, or is a part of; None where there is none."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in modules), None)


def circle(sources_by_module: dict[str, str]) -> list[str]:
    """Returns one circle of imports, from a module around to itself again; empty where there is none.

    An `__init__.py` counts for nothing: what a package shows to others imports the files in it, and they import others
    by it.
    """
    modules = {module for module in sources_by_module if not module.endswith(".__init__")}
    graph = {
        module: {file_of(name, modules) for name in imported_names(module, sources_by_module[module])} - {module, None}
        for module in modules
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found: list[str] = error.args[1]
        return found[::-1]  # the sorter goes from what is imported to what imports it
    return []


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


def test_every_folder_is_a_layer() -> None:
    folders = {".".join(path.parts[:2]) for path in sources() if len(path.parts) > 2}
    assert {f for f in folders if f.split(".")[0] in ("app", "datamodules", "modules")} - ALLOWED_OWN.keys() == set()


def test_no_file_imports_itself_by_way_of_others() -> None:
    ours = {dotted_name(path): source for path, source in sources().items() if path.parts[0] in WITHOUT_CIRCLES}
    assert circle(ours) == []


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
        ("datamodules.episode", "from datamodules.objective import Objective"),
        ("datamodules.tasks.sampling", "from datamodules.images.bank import ImageBank"),
        ("datamodules.tasks.task_stream", "from datamodules.episode_data import EpisodeDataModule"),
        ("datamodules.episode_data", "def f():\n    from datamodules.images import bank"),
        ("datamodules.images.bank", "from datamodules.sets.cub import CUB"),
        ("datamodules.images.bank", "from datamodules import CUB"),
        ("modules.methods.maml", "from datamodules.images.bank import ImageBank"),
        ("modules.methods.maml", "from modules import Learner"),
        ("modules.learner.learner", "from modules.methods.maml import MAML"),
        ("modules.backbones.backbone", "if TYPE_CHECKING:\n    from modules.learner.learner import Learner"),
        ("modules.backbones.backbone", "from datamodules.episode import Episode"),
        ("modules.functional.tasks.layout", "from modules.backbones import backbone"),
        ("app.process.errors", "from app.files.atomic_file import write_atomically"),
        ("app.files.atomic_file", "import datamodules"),
        ("app.runs.files", "from app.checkpoints import configuration"),
        ("app.runs.conclusion", "def f():\n    from app.dashboards.wandb_run import start_wandb"),
        ("app.checkpoints.resume_decision", "from app.command_line.arguments import option_values"),
        ("app.user_classes.answers", "from app.command_line import arguments"),
        ("app.command_line.parser", "if TYPE_CHECKING:\n    from app.application import Application"),
        ("app.application", "from app.export_command import main"),
        ("app.dashboards.wandb_login", "from app.checkpoints.file import load_sound"),
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
        ("app.dashboards.loggers", "import wandb\nfrom datamodules.episode_data import EpisodeDataModule"),
        ("datamodules.sets.omniglot.omniglot", "from .base import EpisodeDataModule\nfrom . import counter"),
        ("datamodules.__init__", "from .omniglot import Omniglot"),
        ("modules.methods.maml", "from datamodules.tasks import counter\nfrom datamodules.episode import Episode"),
        ("datamodules.tasks.query_batches", "from datamodules.episode import Episode\nfrom . import counter"),
        ("datamodules.episode_data", "from datamodules.tasks.sampling import DRAWS"),
        ("app.user_classes.answers", "from app.runs.folder import RunFolder\nfrom datamodules import SupportQuery"),
        ("app.application", "from app.dashboards.wandb_run import start_wandb\nfrom app.process import errors"),
        ("app.cli", "from app.application import Application"),
        ("modules.__init__", "from modules.methods.maml import MAML"),
        ("modules.methods.anil", "from modules.methods.maml import MAML\nfrom modules.learner.learner import Learner"),
        ("modules.methods.maml", "from datamodules.objective import Objective"),
        ("modules.methods.maml", "from datamodules.images.augmentation import augment"),
        ("modules.functional.adapt", "import math\nfrom torch import Tensor\nfrom .losses import cross_entropy"),
    ],
)
def test_an_allowed_import_passes(module: str, source: str) -> None:
    assert forbidden_imports(module, source) == []


@pytest.mark.parametrize(
    "imports",
    [
        {"app.one": "from app.two import f", "app.two": "import app.one"},
        {"app.one": "from app.two import f", "app.two": "if TYPE_CHECKING:\n    from app.one import A"},
        {"app.one": "from app import two", "app.two": "def f():\n    from app import one"},
        {
            "app.x.one": "from . import two",
            "app.x.two": "from ..y.three import C",
            "app.y.three": "import app.x.one as a",
        },
    ],
)
def test_a_circle_is_found(imports: dict[str, str]) -> None:
    found = circle({"app.__init__": "", "app.other": "import app.one\nimport app.x.one", **imports})
    assert found[0] == found[-1]
    assert set(found) == imports.keys()
    assert all(imported.rpartition(".")[2] in imports[module] for module, imported in pairwise(found))


def test_what_a_package_shows_makes_no_circle() -> None:
    assert circle({"app.__init__": "from app.a import A", "app.a": "import app\nfrom app import B\nimport app.b"}) == []


def test_a_long_function_is_found() -> None:
    body = "    x = 1\n" * MAX_FUNCTION_LINES
    source = f"class C:\n  def f(self):\n{body}\nclass D:\n  def f(self):\n    pass"
    assert long_functions(source) == [f"f: {MAX_FUNCTION_LINES + 1} lines"]
