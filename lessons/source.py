"""Quoting Ringscope's own source, so that a lesson cannot drift from it.

definition("cores/vmm.py", "Vmm.step")      a class, function or method, with its docstring
tagged("cores/vmm.py", "four-questions")    from a comment "# lesson: four-questions" to the next
                                            blank line
"""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_TAG = re.compile(r"\s*# lesson: (\S+)\s*$")


class NotThere(Exception):
    """There is no such file, definition or tag."""


def definition(file: str, name: str) -> str:
    """The source of ``name`` ("Vmm.step") in ``file``, without its indentation."""
    text = _read(file)
    body: list[ast.stmt] = ast.parse(text).body
    found: ast.stmt | None = None
    for part in name.split("."):
        found = next((node for node in body if part in _names(node)), None)
        if found is None:
            raise NotThere(f"{file} defines no {name}")
        body = found.body if isinstance(found, ast.ClassDef) else []
    assert found is not None
    decorators = found.decorator_list if isinstance(found, ast.ClassDef | ast.FunctionDef) else []
    first = min([found.lineno, *(node.lineno for node in decorators)])
    return textwrap.dedent("\n".join(text.splitlines()[first - 1 : found.end_lineno]))


def tagged(file: str, tag: str) -> str:
    """What follows the comment ``# lesson: TAG``, up to the next blank line."""
    lines = _read(file).splitlines()
    for number, line in enumerate(lines):
        found = _TAG.match(line)
        if found and found.group(1) == tag:
            end = next((i for i in range(number + 1, len(lines)) if not lines[i].strip()), len(lines))
            return textwrap.dedent("\n".join(lines[number + 1 : end]))
    raise NotThere(f"{file} has no comment '# lesson: {tag}'")


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
    path = (ROOT / file).resolve()
    if path.suffix != ".py" or not path.is_relative_to(ROOT / "cores") or not path.is_file():
        raise NotThere(f"no source file of cores/ is called {file}")
    return path.read_text(encoding="utf-8")
