"""The boot state of a static Linux program: the guest kernel in long mode, with RSI at what it runs.

Kernel and packed program are segments of the program (cores/programs/linux_program.py), so that the
state is that of long_mode.py but for one register.
"""

from __future__ import annotations

from collections.abc import Sequence

from cores.pc.boot import long_mode
from cores.pc.network.link import Link
from cores.pc.physical_memory import PhysicalMemory
from cores.programs.linux_program import PACKED
from cores.programs.program import Program
from cores.x86.registers import RSI
from cores.x86.virtual_cpu import VirtualCpu


def boot(
    program: Program, memory: PhysicalMemory, cpu: VirtualCpu, *, disk_sectors: int = 0,
    links: Sequence[Link] = (), disks: Sequence[object] = (),
) -> None:  # fmt: skip
    """RSI = the packed program's physical address."""
    long_mode.boot(program, memory, cpu, disk_sectors=disk_sectors)
    cpu.gpr[RSI] = PACKED
