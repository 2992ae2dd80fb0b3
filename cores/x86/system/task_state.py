"""The task state segment (TSS): stacks of inner privilege levels, and I/O permissions (SDM vol. 3,
7.2).

The platform switches no tasks in hardware. Of the TSS it uses what an operating system needs without
that: the stacks for interrupts and call gates, and the I/O permission bitmap.
"""

from __future__ import annotations

from cores.x86.faults import GuestFault, invalid_tss
from cores.x86.mmu.paging import Mmu
from cores.x86.mmu.stack import Stack
from cores.x86.mode import DEFAULT_32
from cores.x86.registers import MASK64, Efer, Vector
from cores.x86.system.descriptors import (
    is_null,
    mark_accessed,
    null_segment,
    read_descriptor,
    to_segment,
)
from cores.x86.virtual_cpu import VirtualCpu

_RSP0, _IST1 = 4, 36
_TSS_32 = 8
"""The bit of the type by which a 32-bit or 64-bit TSS differs from a 16-bit one."""
_IO_MAP_BASE, _LEAST_WITH_IO_MAP = 0x66, 0x67


def inner_stack(mmu: Mmu, cpu: VirtualCpu, cpl: int, ext: int = 0, ist: int = 0) -> Stack:
    """The stack at which the handler or the procedure at ``cpl`` begins.

    ext: the EXT bit of error codes. ist: in long mode, the stack of the interrupt stack table that the
    gate names, 0 for none. Raises #TS, and #SS for a stack segment that is not present."""
    if cpu.efer & Efer.LMA:
        offset = _IST1 + (ist - 1) * 8 if ist else _RSP0 + cpl * 8
        pointer = _field(mmu, cpu, offset, 8, ext)
        return Stack(mmu, pointer, null_segment(cpl, cpl), 64, user=cpl == 3, error=ext)
    if cpu.tr.attributes & _TSS_32:
        pointer = _field(mmu, cpu, 4 + cpl * 8, 4, ext)
        selector = _field(mmu, cpu, 8 + cpl * 8, 2, ext)
    else:
        pointer = _field(mmu, cpu, 2 + cpl * 4, 2, ext)
        selector = _field(mmu, cpu, 4 + cpl * 4, 2, ext)
    error = selector & 0xFFFC | ext
    if is_null(selector):
        raise invalid_tss(ext)
    try:
        descriptor = read_descriptor(mmu, cpu, selector)
    except GuestFault as fault:
        raise invalid_tss(error) if fault.vector == Vector.GP else fault from None
    if selector & 3 != cpl or descriptor.dpl != cpl or not descriptor.writable:
        raise invalid_tss(error)
    if not descriptor.present:
        raise GuestFault(Vector.SS, error)
    mark_accessed(mmu, descriptor)
    segment = to_segment(selector, descriptor)
    bits = 32 if segment.attributes & DEFAULT_32 else 16
    return Stack(mmu, pointer, segment, bits, user=cpl == 3, error=error)


def _field(mmu: Mmu, cpu: VirtualCpu, offset: int, size: int, ext: int) -> int:
    """A number in the TSS (SDM vol. 3, figures 7-2, 7-10 and 7-11); #TS beyond its limit."""
    if not cpu.tr.present or offset + size - 1 > cpu.tr.limit:
        raise invalid_tss(cpu.tr.selector & 0xFFFC | ext)
    return mmu.read_number((cpu.tr.base + offset) & MASK64, size, implicit=True)


def permits_port(mmu: Mmu, cpu: VirtualCpu, port: int, size: int) -> bool:
    """Whether the I/O permission bitmap permits an access of ``size`` bytes (SDM vol. 1, 19.5.2)."""
    tss = cpu.tr
    if not tss.attributes & _TSS_32 or tss.limit < _LEAST_WITH_IO_MAP:
        return False
    at = mmu.read_number(tss.base + _IO_MAP_BASE, 2, implicit=True) + port // 8
    if at + 1 > tss.limit:
        return False
    bits = mmu.read_number(tss.base + at, 2, implicit=True)
    return not bits >> (port & 7) & ((1 << size) - 1)
