"""The guests of the lab's steps, and what varies in them.

A guest reads what it works on from its label ``given``. There a case puts letters drawn from its seed,
so that what the guest prints, and the values in its registers, are others for each seed.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, replace
from pathlib import Path

from cores.programs import shipped
from cores.programs.loader import load_program
from cores.programs.program import Program

FOLDER = shipped.ASSETS / "lab"
GIVEN, BYTES = "given", 64
"""The label in each guest, and the bytes there."""


@dataclass(frozen=True, slots=True)
class Case:
    """One guest, run once. name: of its file in assets/lab. seed: what it is given; 0: what stands in
    its source. hidden: its messages do not show what it printed. input: what is typed. until: a text
    that ends it."""

    name: str
    seed: int = 0
    hidden: bool = False
    input: str = ""
    until: str = ""

    @property
    def path(self) -> Path:
        """Its source."""
        return FOLDER / f"{self.name}.s"

    def program(self) -> Program:
        """The guest, with what it is given."""
        program = load_program(str(self.path))
        if not self.seed:
            return program
        (segment,) = program.segments
        at = program.symbols[GIVEN] - segment.gpa
        data = segment.data[:at] + given(self.seed, self.name) + segment.data[at + BYTES :]
        return replace(program, segments=(replace(segment, data=data),))


def given(seed: int, name: str) -> bytes:
    """A line of 8 to 40 letters, then zeros."""
    chance = random.Random(f"{seed} {name}")
    letters = "".join(chance.choices(string.ascii_letters, k=chance.randint(8, 40)))
    return (letters + "\n").encode().ljust(BYTES, b"\0")
