"""The boot states in real mode: a disk's first sector, and a ROM at the reset vector.

There is no BIOS: the interrupt vector table is zero but for what the guest writes there, and an INT
through a vector of zero stops the machine with a sentence (cores/vmm/emulate/flags.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from cores.pc.boot import mp_tables
from cores.pc.cpuid import SIGNATURE
from cores.pc.network.link import Link
from cores.pc.physical_memory import PhysicalMemory
from cores.programs.program import Program
from cores.x86.registers import CS, RDX, RSP, Cr0, Flag
from cores.x86.virtual_cpu import Segment, TableRegister, VirtualCpu

BOOT_SECTOR = 0x7C00
FIRST_DISK = 0x80
_RESET = 0xFFF0
_ROM_SEGMENT = 0xF000


def boot_disk(
    program: Program, memory: PhysicalMemory, cpu: VirtualCpu, *, disk_sectors: int = 0,
    links: Sequence[Link] = (), disks: Sequence[object] = (),
) -> None:  # fmt: skip
    """The boot sector at 0000:7C00, DL = the disk's number, interrupts on, as a BIOS leaves it."""
    mp_tables.write(memory)
    _store(memory, BOOT_SECTOR, program.segments[0].data)
    cpu.assign(_real_mode(BOOT_SECTOR))
    cpu.rflags |= Flag.IF
    cpu.gpr[RDX], cpu.gpr[RSP] = FIRST_DISK, BOOT_SECTOR


def boot_rom(
    program: Program, memory: PhysicalMemory, cpu: VirtualCpu, *, disk_sectors: int = 0,
    links: Sequence[Link] = (), disks: Sequence[object] = (),
) -> None:  # fmt: skip
    """A ROM that ends at 1 MiB, and again at 4 GiB, entered at F000:FFF0 (SDM vol. 3, 9.1.4, but for
    CS's base). The one below 1 MiB is RAM, as firmware has it once it has copied itself."""
    (segment,) = program.segments
    _store(memory, segment.gpa, segment.data)
    memory.attach(range((4 << 30) - segment.size, 4 << 30), Rom(segment.data))
    cpu.assign(_real_mode(_RESET))
    cpu.cr0 |= Cr0.CD | Cr0.NW
    cpu.gpr[RDX] = SIGNATURE
    cpu.segments[CS].selector, cpu.segments[CS].base = _ROM_SEGMENT, _ROM_SEGMENT << 4


class Rom:
    """Read-only memory (``MmioDevice``): stores have no effect."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def mmio_read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    mmio_peek = mmio_read

    def mmio_write(self, offset: int, data: bytes) -> None:
        """No effect."""

    def describe_access(self, offset: int) -> str:
        return "ROM"


def _real_mode(ip: int) -> VirtualCpu:
    cpu = VirtualCpu(
        rip=ip, cr0=Cr0.ET, gdtr=TableRegister(0, 0xFFFF), idtr=TableRegister(0, 0x3FF),
        segments=[Segment(0, 0, 0xFFFF, 0x93) for _ in range(6)],
        ldtr=Segment(0, 0, 0xFFFF, 0x82), tr=Segment(0, 0, 0xFFFF, 0x8B),
    )  # fmt: skip
    cpu.segments[CS].attributes = 0x9B
    return cpu


def _store(memory: PhysicalMemory, gpa: int, data: bytes) -> None:
    memory.view[gpa : gpa + len(data)] = data
