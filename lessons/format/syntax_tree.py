"""Python's parser, used by one thread at a time.

In CPython 3.11 threads that make syntax trees at once share a counter of recursion (CPython issue
106905): now and then one ends in SystemError, "AST constructor recursion depth mismatch". In the
interface one thread lists the course while another reads a lesson.
"""

from __future__ import annotations

import ast
import threading
import warnings

_PARSER = threading.Lock()


def module(text: str) -> list[ast.stmt]:
    """The statements of a file. Raises SyntaxError."""
    with _PARSER:
        return ast.parse(text).body


def expression(text: str) -> ast.expr:
    """Raises what ast.parse raises; SyntaxError also where it only warns, as of "1or 2"."""
    with _PARSER, warnings.catch_warnings():
        warnings.simplefilter("error", SyntaxWarning)
        return ast.parse(text, mode="eval").body
