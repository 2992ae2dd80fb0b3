"""A simulation of a guest: its behaviour, and nothing of its machine. Lesson 13 quotes it, and
``simulation`` in an expression is what it prints."""

from __future__ import annotations

from collections.abc import Iterator


def guest() -> Iterator[str]:
    """The 24 numbers of guests/fibonacci.s, each the sum of the two before."""
    a, b = 0, 1
    for _ in range(24):
        yield f"{b} "
        a, b = b, a + b
    yield "\n"
