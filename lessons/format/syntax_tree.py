"""Python's parser, made fit for several threads.

In CPython 3.11 threads that make syntax trees share a counter of recursion (CPython issue 106905). If
the garbage collector begins in the middle of one and lets another thread run, one of them ends in
SystemError, "AST constructor recursion depth mismatch". In the interface one thread lists the course
while another reads a lesson, and Textual parses the actions of keys. So trees are made one at a time,
with the collector off.
"""

from __future__ import annotations

import ast
import gc
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_PARSER = threading.Lock()


@contextmanager
def _alone() -> Iterator[None]:
    with _PARSER:
        collects = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()


def module(text: str) -> list[ast.stmt]:
    """The statements of a file. Raises SyntaxError."""
    with _alone():
        return ast.parse(text).body


def expression(text: str) -> ast.expr:
    """Raises what ast.parse raises; SyntaxError also where it only warns, as of "1or 2"."""
    with _alone(), warnings.catch_warnings():
        warnings.simplefilter("error", SyntaxWarning)
        return ast.parse(text, mode="eval").body
