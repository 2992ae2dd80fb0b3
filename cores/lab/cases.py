"""The guests of the lab's steps, and what varies in them.

A guest reads what it works on from its label ``given``. There a case puts letters drawn from its seed,
so that what the guest prints, and the values in its registers, are others for each seed.
"""

from __future__ import annotations

import contextlib
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cores.pc.devices.storage.disk import Disk
from cores.programs import shipped
from cores.programs.loader import load_program
from cores.programs.program import Program

FOLDER = shipped.ASSETS / "lab"
KERNEL = "pico"
"""The teaching kernel, a 32-bit UNIX with a disk."""
KERNEL_SOURCE = shipped.ASSETS / "guests" / KERNEL
"""The folder of its source."""
GIVEN, BYTES = "given", 64
"""The label in each guest, and the bytes there."""


@dataclass(frozen=True, slots=True)
class Case:
    """One guest, run once. name: of its file in assets/lab, or ``KERNEL``. seed: what it is given is
    drawn from it; 0: what stands in its source. hidden: its messages do not show what it printed.
    typed: on its keyboard and serial line; WORD in it is a word drawn from the seed."""

    name: str
    seed: int = 0
    hidden: bool = False
    typed: str = ""

    def program(self) -> Program:
        """The guest, with what it is given."""
        if self.name == KERNEL:
            return load_program(str(shipped.ASSETS / "guests" / f"{KERNEL}.elf"))
        program = load_program(str(FOLDER / f"{self.name}.s"))
        if not self.seed:
            return program
        (segment,) = program.segments
        at = program.symbols[GIVEN] - segment.gpa
        data = segment.data[:at] + given(self.seed, self.name) + segment.data[at + BYTES :]
        return replace(program, segments=(replace(segment, data=data),))

    @property
    def input(self) -> bytes:
        """What is typed."""
        word = given(self.seed, self.typed).rstrip(b"\n\0").decode() if self.seed else "hello"
        return self.typed.replace("WORD", word).encode()

    @contextlib.contextmanager
    def disks(self) -> Iterator[list[Disk]]:
        """Its disks, with nothing written through."""
        if self.name != KERNEL:
            yield []
            return
        with contextlib.closing(Disk(str(shipped.ASSETS / "disks" / f"{KERNEL}.img"))) as disk:
            yield [disk]


def given(seed: int, name: str) -> bytes:
    """A line of 8 to 40 letters, then zeros."""
    chance = random.Random(f"{seed} {name}")
    letters = "".join(chance.choices(string.ascii_letters, k=chance.randint(8, 40)))
    return (letters + "\n").encode().ljust(BYTES, b"\0")
