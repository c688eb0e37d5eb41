"""No file that is read can execute anything: every reader that could is told not to, wherever it is called."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("app", "datamodules", "modules") for path in sorted((ROOT / folder).rglob("*.py"))]
# What each reader must be told, and those that are not to be called at all.
TOLD = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False), "numpy.load": ("allow_pickle", False)}
NEVER = {
    *(f"{module}.{name}" for module in ("pickle", "dill", "joblib", "cloudpickle") for name in ("load", "loads")),
    *(f"yaml.{name}" for name in ("load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all")),
    "torch.jit.load",
    "torch.hub.load",
    "torch.package.PackageImporter",
    "pd.read_pickle",
    "eval",
    "exec",
}


def wrong_calls(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        told = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
        if name in NEVER or (name in TOLD and told.get(TOLD[name][0]) is not TOLD[name][1]):
            yield ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_reader_executes_what_it_reads(path: Path) -> None:
    assert list(wrong_calls(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "call", ["torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f)", "yaml.load(f)", "pickle.loads(b)"]
)
def test_such_a_call_is_found(call: str) -> None:
    assert list(wrong_calls(call)) == [call]
