"""MP configuration tables, which tell a kernel of the APICs, and the words of a BIOS data area.

Source: Intel, "MultiProcessor Specification" 1.4 (242016-006), ch. 4. One processor with local APIC 0,
one ISA bus, one I/O APIC. Interrupts of the bus arrive at the inputs of their numbers, but IRQ 0 at
input 2; the PICs' output (ExtINT) at LINT0 and NMI at LINT1 of all local APICs. There is no IMCR.
"""

from __future__ import annotations

import struct

from cores.pc.cpuid import CPUID_LEAVES, SIGNATURE
from cores.pc.devices import io_apic, local_apic
from cores.pc.physical_memory import HOLE, PhysicalMemory
from cores.x86.registers import ApicBase

POINTER = 0xF0000
"""The floating pointer; the table follows it."""
_TABLE = POINTER + 16
_PROCESSOR, _BUS, _IO_APIC, _INTERRUPT, _LOCAL = range(5)
_INT, _NMI, _EXTINT = 0, 1, 3
_ALL = 0xFF
_CASCADE = 2
_BASE_MEMORY = 0x413
"""KiB of memory below the hole, in the BIOS data area: kernels look for the pointer at its end, too."""


def write(memory: PhysicalMemory) -> None:
    """Write the floating pointer and the table into the ROM area, and the BIOS data area's word."""
    table = _table()
    pointer = struct.pack("<4sIBBBB4x", b"_MP_", _TABLE, 1, 4, 0, 0)
    memory.view[POINTER : POINTER + 16] = _summed(pointer, 10)
    memory.view[_TABLE : _TABLE + len(table)] = table
    memory.view[_BASE_MEMORY : _BASE_MEMORY + 2] = (HOLE.start >> 10).to_bytes(2, "little")


def _table() -> bytes:
    irqs = [irq for irq in range(16) if irq != _CASCADE]
    version = local_apic.VERSION_NUMBER
    entries = [
        struct.pack("<BBBBII8x", _PROCESSOR, 0, version, 0b11, SIGNATURE, CPUID_LEAVES[1][3]),
        struct.pack("<BB6s", _BUS, 0, b"ISA   "),
        struct.pack("<BBBBI", _IO_APIC, 0, io_apic.VERSION_NUMBER, 1, io_apic.WINDOW.start),
        *(_interrupt(_INTERRUPT, _INT, irq, 0, io_apic.input_of(irq)) for irq in irqs),
        _interrupt(_LOCAL, _EXTINT, 0, _ALL, 0),
        _interrupt(_LOCAL, _NMI, 0, _ALL, 1),
    ]
    body = b"".join(entries)
    header = struct.pack(
        "<4sHBB8s12sIHHIHBB", b"PCMP", 44 + len(body), 4, 0, b"RINGSCOP", b"PC".ljust(12), 0, 0,
        len(entries), ApicBase.ADDRESS, 0, 0, 0,
    )  # fmt: skip
    return _summed(header + body, 7)


def _interrupt(kind: int, of: int, source: int, destination: int, number: int) -> bytes:
    """An interrupt of bus 0, polarity and trigger as the bus has them."""
    return struct.pack("<BBHBBBB", kind, of, 0, 0, source, destination, number)


def _summed(data: bytes, at: int) -> bytes:
    """The data with the byte at ``at`` such that all bytes add up to 0."""
    return data[:at] + bytes((-sum(data) & 0xFF,)) + data[at + 1 :]
