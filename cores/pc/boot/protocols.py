"""Boot protocols: how a program of each format finds the machine when it begins.

A protocol puts the program into zeroed RAM and the CPU into its first state. It is a function in a file
beside this one, and a line below.
"""

from __future__ import annotations

from typing import Protocol

from cores.pc.boot import long_mode
from cores.pc.physical_memory import PhysicalMemory
from cores.programs.program import Program
from cores.x86.virtual_cpu import VirtualCpu


class Boot(Protocol):
    """disk_sectors: of the data disk, 0 without one."""

    def __call__(
        self, program: Program, memory: PhysicalMemory, cpu: VirtualCpu, *, disk_sectors: int = 0
    ) -> None: ...


PROTOCOLS: dict[str, Boot] = {
    "asm": long_mode.boot,
    "elf": long_mode.boot,
    "flat": long_mode.boot,
}
"""By ``Program.format``."""
