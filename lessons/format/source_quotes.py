"""Quoting Ringscope's own source, so that a lesson cannot drift from it.

definition("cores/vmm/vmm.py", "Vmm.step")      a class, function or method, with its docstring
tagged("cores/vmm/vmm.py", "interrupt-due")     what follows "# lesson: interrupt-due", up to a blank
                                                line, the next such comment, or the block's end
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from lessons.format import syntax_tree

ROOT = Path(__file__).resolve().parents[2]
_TAG = re.compile(r"\s*# lesson: (\S+)$")


class NotThere(Exception):
    """There is no such file, definition or tag."""


def definition(file: str, name: str) -> str:
    """The source of ``name`` ("Vmm.step") in ``file``, without its indentation and its tags."""
    text = _read(file)
    try:
        body = syntax_tree.module(text)
    except SyntaxError as error:  # it is being edited
        raise NotThere(f"{file} cannot be read: {error.msg} in line {error.lineno}") from None
    found: ast.stmt | None = None
    for part in name.split("."):
        found = next((node for node in body if part in _names(node)), None)
        if found is None:
            raise NotThere(f"{file} defines no {name}")
        body = found.body if isinstance(found, ast.ClassDef) else []
    assert found is not None
    decorators = found.decorator_list if isinstance(found, ast.ClassDef | ast.FunctionDef) else []
    first = min([found.lineno, *(node.lineno for node in decorators)])
    lines = text.splitlines()[first - 1 : found.end_lineno]
    return textwrap.dedent("\n".join(line for line in lines if not _TAG.match(line)))


def tagged(file: str, tag: str) -> str:
    """The code below the comment ``# lesson: TAG`` in ``file``, without its indentation."""
    lines = _read(file).splitlines()
    for number, line in enumerate(lines):
        found = _TAG.match(line)
        if found and found.group(1) == tag:
            return textwrap.dedent("\n".join(_block(lines[number + 1 :], _depth(line))))
    raise NotThere(f"{file} has no comment '# lesson: {tag}'")


def _block(lines: list[str], depth: int) -> Iterator[str]:
    for line in lines:
        if not line.strip() or _depth(line) < depth or _TAG.match(line):
            return
        yield line


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _names(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def _read(file: str) -> str:
    path = (ROOT / file.replace("\0", "")).resolve()
    ours = any(path.is_relative_to(ROOT / folder) for folder in ("cores", "lessons"))
    if path.suffix != ".py" or not ours or not path.is_file():
        raise NotThere(f"no source file of cores/ or lessons/ is called {file!r}")
    return path.read_text(encoding="utf-8")
