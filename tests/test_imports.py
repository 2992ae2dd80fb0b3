"""The import graph of the source: every import counts, wherever it stands."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "lessons", "cores")

_START, _HOST = "what a start does not need is loaded later", "not every host has what it measures"
_EXTRA = "an extra has what it needs"
LATE = {
    "app.main": _START,
    "app.commands.classroom": _EXTRA,
    "app.commands.serve": _EXTRA,
    "app.commands.explain": _START,
    "app.commands.home": _START,
    "app.commands.lab": _START,
    "app.commands.open": _START,
    "app.commands.options": _START,
    "app.commands.play": _START,
    "app.tui.abilities": _START,
    "app.tui.app": _START,
    "app.tui.options": _START,
    "app.tui.screens.home": _START,
    "app.tui.screens.machines.looking": _START,
    "app.tui.screens.machines.screen": _START,
    "app.tui.screens.machines.state": _START,
    "cores.pc.network.making": _START,
    "cores.inspection.network": _START,
    "cores.programs.loader": _START,
    "cores.runs.platform": _START,
    "app.bench.bare": _HOST,
    "app.bench.execution": _HOST,
    "app.bench.interface": _HOST,
}
"""The modules that import others of this source in a function, and why."""

Graph = dict[str, set[str]]


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, module: str, *, package: bool) -> Iterator[tuple[str, str]]:
    """(module, name imported from it, or "") of each import statement: at the top, in functions, and
    for type checkers."""
    above = module.split(".") if package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = above[: len(above) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((source, alias.name) for alias in node.names)


def import_graph(root: Path) -> Graph:
    """The modules under ``root``, each with those that it imports. ``from package import name`` is an
    import of the submodule of that name where there is one."""
    paths = {module_name(path, root): path for top in PACKAGES for path in (root / top).rglob("*.py")}
    graph: Graph = {}
    for module, path in paths.items():
        tree = ast.parse(path.read_text("utf-8"))
        pairs = imported(tree, module, package=path.name == "__init__.py")
        found = {
            f"{source}.{name}" if f"{source}.{name}" in paths else source for source, name in pairs
        }
        graph[module] = found & paths.keys() - {module}
    return graph


def test_no_import_is_part_of_a_circle() -> None:
    """No module imports one that leads back to it, in a function and for type checkers included."""
    graph = import_graph(ROOT)
    assert graph["cores.vmm.vmm"] >= {"cores.vmm.completion", "cores.engines.base"}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def imports_late(path: Path, module: str) -> bool:
    """Does a function of this file import a module of this source?"""
    functions = (
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    package = path.name == "__init__.py"
    sources = (source for f in functions for source, _ in imported(f, module, package=package))
    return any(source.partition(".")[0] in PACKAGES for source in sources)


def test_imports_in_functions_are_named_with_their_reason() -> None:
    """Such imports stand in app alone, in the modules that ``LATE`` names."""
    paths = [path for top in PACKAGES for path in (ROOT / top).rglob("*.py")]
    assert {m for path in paths if imports_late(path, m := module_name(path, ROOT))} == LATE.keys()


@pytest.mark.parametrize(
    "back", ["import cores.a", "from cores import a", "from . import a",
             "def f():\n    from .a import x",
             "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cores.a import x"],
)  # fmt: skip
def test_a_circle_is_found(back: str, tmp_path: Path) -> None:
    """Two modules that import each other are a circle, however the second one writes it."""
    (tmp_path / "cores").mkdir()
    for name, text in (("__init__", ""), ("a", "from cores.b import y\n"), ("b", back)):
        (tmp_path / "cores" / f"{name}.py").write_text(text)
    with pytest.raises(CycleError):
        TopologicalSorter(import_graph(tmp_path)).prepare()


def test_files_of_tests_have_names_of_their_own() -> None:
    """pytest imports them by name alone: of two with the same, one would stop the whole run."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
