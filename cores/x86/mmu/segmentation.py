"""Segmentation: from segment, offset, size and kind of access to a linear address (SDM vol. 3, 5.3).

The one place where a segment's base is added and its limit, type and presence are checked. In 64-bit
mode only the bases of FS and GS count, and an address has to be canonical instead.
"""

from __future__ import annotations

from cores.x86.faults import GuestFault, general_protection, stack_fault
from cores.x86.mode import DEFAULT_32, is_long
from cores.x86.registers import CS, FS, MASK16, MASK32, MASK64, SS, Cr0, canonical
from cores.x86.virtual_cpu import Segment, VirtualCpu

_PE = Cr0.PE
_PRESENT, _CODE, _EXPAND_DOWN, _WRITABLE, _READABLE = 0x80, 8, 4, 2, 2


def linear(
    cpu: VirtualCpu, segment: int, offset: int, size: int = 1, *, write: bool = False, error: int = 0
) -> int:
    """The linear address of ``size`` bytes at ``segment:offset`` that are to be read or written.

    offset: the effective address, within the address size. error: the code of #SS where this is a
    stack to which an event is being delivered. Raises GuestFault: #SS(``error``) through SS, else
    #GP(0)."""
    if is_long(cpu):
        address = (offset + cpu.segments[segment].base if segment >= FS else offset) & MASK64
        if not (canonical(address) and canonical(address + size - 1 & MASK64)):
            raise _fault(segment, error)
        return address
    register = cpu.segments[segment]
    protected = cpu.cr0 & _PE  # in real mode a code segment can be written
    if protected and not _accessible(register.attributes, write):
        raise _fault(segment, error)
    if not within_limit(register, offset, size):
        raise _fault(segment, error)
    return register.base + offset & MASK32


def on_stack(segment: Segment, offset: int, size: int, *, bits: int, error: int = 0) -> int:
    """The linear address of ``size`` bytes at ``offset`` in a stack segment, which need not be in SS
    yet. bits: of the stack pointer. Raises #SS(``error``)."""
    if bits == 64:
        if not (canonical(offset) and canonical(offset + size - 1 & MASK64)):
            raise stack_fault(error)
        return offset
    if not within_limit(segment, offset, size):
        raise stack_fault(error)
    return segment.base + offset & MASK32


def unchecked(cpu: VirtualCpu, segment: int, offset: int) -> int:
    """The linear address of ``segment:offset``, whether or not the CPU would let the guest have it."""
    if is_long(cpu):
        return (offset + cpu.segments[segment].base if segment >= FS else offset) & MASK64
    return cpu.segments[segment].base + offset & MASK32


def code_address(cpu: VirtualCpu, rip: int) -> int:
    """The linear address of the instruction at CS:``rip``, unchecked."""
    return rip if is_long(cpu) else cpu.segments[CS].base + rip & MASK32


def in_segment(cpu: VirtualCpu, rip: int) -> str:
    """CS:``rip`` in words: "0x100005", or "07c0:0005" where CS has a base."""
    code = cpu.segments[CS]
    return f"{code.selector:04x}:{rip:04x}" if code.base and not is_long(cpu) else f"{rip:#x}"


def check_fetch(cpu: VirtualCpu, rip: int, length: int) -> None:
    """Raises GuestFault #GP(0) unless ``length`` bytes of code at CS:``rip`` are within CS's limit."""
    if not is_long(cpu) and rip + length - 1 > cpu.segments[CS].limit:
        raise general_protection()


def within_limit(register: Segment, offset: int, size: int) -> bool:
    """Whether ``size`` bytes at ``offset`` lie inside the segment. An expand-down segment is what its
    limit leaves out, up to 64 KiB or, with B, 4 GiB."""
    last, attributes = offset + size - 1, register.attributes
    if attributes & (_CODE | _EXPAND_DOWN) == _EXPAND_DOWN:
        return offset > register.limit and last <= (MASK32 if attributes & DEFAULT_32 else MASK16)
    return last <= register.limit


def _accessible(attributes: int, write: bool) -> bool:
    """Whether a segment of this type may be read or written. After a null selector it is not
    present."""
    if not attributes & _PRESENT:
        return False
    if attributes & _CODE:
        return not write and bool(attributes & _READABLE)
    return not write or bool(attributes & _WRITABLE)


def _fault(segment: int, error: int) -> GuestFault:
    return stack_fault(error) if segment == SS else general_protection()
