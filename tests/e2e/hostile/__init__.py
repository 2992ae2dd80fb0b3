"""Hostile guests, which try to escape, to hang the VMM, or to use up the host: guests.s, inside
kernel.s.

    ## name [options]: what it tries

Options: ``ends=a,b``: how it may stop (else only by its own exit, status 77). ``budget``: instructions
in exact mode. ``seconds``: host time in free mode. ``exact``: not in free mode.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cores.engines.ptrace import stub
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program
from cores.programs.program import Program

HERE = Path(__file__).parent
HEADING = re.compile(r"^## (\S+)(?: \[(.*)\])?: (.*)$", re.MULTILINE)
BUDGET = 10_000
SECONDS = 0.4
"""Host time in free mode of a guest that may be stopped by it; any other ends by itself."""
PATIENCE = 240.0
STATUS = 77

PLACES = (
    0, 8, 0xFFF, 0x1000, 0xFFFF, 0xA0000, 0xB8000, 0x400000, 0x7FFFFFF8, 0x555555554000,
    stub.CODE, stub.GATE, stub.GATE_DONE, stub.DATA, stub.REGION.stop - 8,
    0x7FFFF7FC1000, 0x7FFFFFFFE000, 0x7FFFFFFFEFFF, 0x7FFFFFFFF000, 0x7FFFFFFFFFFF,
    1 << 47, 0x8000_0000_0000_0000, 0xFFFF_7FFF_FFFF_FFF8, 0xFFFF_8000_0000_0000,
    0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_FF60_0000, 0xFFFF_FFFF_FF60_0400, 0xFFFF_FFFF_FF60_0800,
    0xFFFF_FFFF_FFFF_FFFF,
)  # fmt: skip
"""Addresses at which a process of Linux has, or might have, something of the host's."""

RACED = (
    "0f 05 90 90", "cd 80 90 90", "0f 34 90 90", "9c 58 90 90", "0f 01 04 24", "0f a2 90 90",
    "0f 31 90 90", "48 cb 90 90", "0f c7 f0 90", "cc 90 90 90", "fa 90 90 90",
    "8e d8 90 90", "0f 0b 90 90", "cd 03 90 90", "66 9d 90 90", "0f 20 d8 90", "0f 22 d8 90",
    "ea 90 90 90", "ff 2c 24 90", "0f 01 d0 90", "f3 0f ae c0",
)  # fmt: skip
"""What is written over code: instructions that must never run unseen."""


@dataclass(frozen=True)
class Guest:
    """One hostile guest. ends: the permitted stops."""

    name: str
    tries: str
    source: str
    ends: frozenset[Stop]
    budget: int
    seconds: float
    free: bool

    @property
    @cache  # noqa: B019 - guests live as long as the tests
    def program(self) -> Program:
        return assemble_program(self.source.encode(), f"{self.name}.s")


def load() -> dict[str, Guest]:
    """Read all guests, by name."""
    kernel, text = (HERE / "kernel.s").read_text(), (HERE / "guests.s").read_text()
    headings = list(HEADING.finditer(text))
    guests: dict[str, Guest] = {}
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        name, options, tries = heading.groups()
        words = dict((*word.partition("="),)[::2] for word in (options or "").split())
        body = text[heading.end() : following.start() if following else None]
        body, *more = _filled(body, SNIPPETS).split("%more")
        source = _filled(kernel, {"body": body, "more": "".join(more)} | SNIPPETS)
        ends = frozenset(map(Stop, words.get("ends", "exit").split(",")))
        budget, seconds = int(words.get("budget", BUDGET)), float(words.get("seconds", SECONDS))
        if Stop.BUDGET not in ends:
            seconds = PATIENCE
        guests[name] = Guest(name, tries, source, ends, budget, seconds, "exact" not in words)
    return guests


def _filled(text: str, parts: dict[str, str]) -> str:
    for name, part in parts.items():
        text = text.replace("{" + name + "}", part)
    return text


def _gate(label: str) -> str:
    return f".short {label} - _start; .short 0x10; .byte 1; .byte 0xee; .short 0x10; .quad 0"


def _table(name: str, numbers: list[str]) -> str:
    lines = "\n".join(f"    {number}" for number in numbers)
    return f"{name}:\n{lines}\n{name}_end:\n"


SNIPPETS = {
    "gates": "\n".join(_gate("acknowledge" if 0x20 <= v < 0x30 else "caught") for v in range(256)),
    "ints": "\n".join(f".byte 0xcd, {vector}, 0x0f, 0x0b" for vector in range(256)),
    "walk_places": (HERE / "walk_places.s").read_text(),  # before the places, which stand in it
    "places": _table("places", [f".quad {place:#x}" for place in PLACES]),
    "bytes": _table("bytes", [f".byte {', '.join('0x' + b for b in code.split())}" for code in RACED]),
    "stub": f"{stub.CODE:#x}",
    "endless": (HERE / "endless.s").read_text(),
    "everything": (HERE / "everything.s").read_text(),
}
