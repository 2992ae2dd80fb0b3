"""A student's run and ours side by side as text, for `lab show` where there is no terminal."""

from __future__ import annotations

from app.lab import Result
from app.text import lesson as lesson_text
from app.text.reports import WIDTH
from cores.lab.log import Event
from cores.lab.pairs import line, pairs
from cores.plural import counted

_AROUND = 12
"""Exits that are shown before the first difference, and after it."""


def side_by_side(result: Result) -> str:
    """The exits around the first difference, or the first ones where there is none."""
    found = pairs(result.student, result.ours, result.verdict.parting)
    at = next((index for index, pair in enumerate(found) if pair.parts), 0)
    first, last = max(0, at - _AROUND), at + _AROUND
    width = (WIDTH - 3) // 2
    lines = [f"{result.name}: {counted(len(found), 'exit')}", f"{'your VMM':<{width}} | ours"]
    if first:
        lines.append("...")
    for pair in found[first:last]:
        mark = "≠" if pair.parts else "|"
        lines.append(f"{_cell(pair.mine, width)} {mark} {_cell(pair.ours, width)}".rstrip())
    if found[last:]:
        lines.append("...")
    words = result.verdict.words or "right"
    return "\n".join([*lines, lesson_text.wrap(words, "")])


def _cell(event: Event | None, width: int) -> str:
    """Where there is no room for the whole instruction, the reason is still there."""
    if event is None:
        return " " * width
    reason = f"  {event.reason}"
    return f"{line(event).removesuffix(reason)[: max(0, width - len(reason))]}{reason}"[:width].ljust(
        width
    )
