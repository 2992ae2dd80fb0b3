"""Accesses that may leave their segment: those which a translator, which checks no limits, has to leave
to the VMM even where it runs freely.

Nearly all 32-bit systems use flat segments, of which nothing has to be checked; and 16-bit addresses do
not leave a segment of 64 KiB, but for an operand that crosses its end. A mask has a bit for each
segment register (1 << number), and 8 bits above another one, for accesses by 16-bit addresses.
"""

from __future__ import annotations

from cores.x86.isa.instruction import Instruction, MemoryOperand
from cores.x86.mode import is_long
from cores.x86.registers import CS, MASK16, MASK32, SS, Cr0
from cores.x86.virtual_cpu import Segment, VirtualCpu

SEGMENTS = 14
"""Bits in a mask."""
_NARROW = 8
_DATA, _WRITABLE_DATA = 0x9A, 0x92
"""P, S and the type's code and writable bits; of a segment in which everything may be accessed."""
_EXPAND_DOWN = 4


def limited_segments(cpu: VirtualCpu) -> int:
    """The mask of segments through which an access may fault; 0 in 64-bit mode."""
    if is_long(cpu):
        return 0
    found, real = 0, not cpu.cr0 & Cr0.PE
    for number, segment in enumerate(cpu.segments):
        is_open = real or _open(segment)
        if segment.limit < MASK32 or not is_open:
            found |= 1 << number
            if segment.limit < MASK16 or not (is_open or number == CS):
                found |= 1 << number + _NARROW
    return found


def _open(segment: Segment) -> bool:
    """Whether it is a writable, present data segment that expands up."""
    return segment.attributes & _DATA == _WRITABLE_DATA and not segment.attributes & _EXPAND_DOWN


def segments_used(insn: Instruction) -> int:
    """The mask of segments that an instruction accesses; 0 in 64-bit code."""
    if insn.bits == 64 or not (insn.access or insn.implicit):
        return 0
    found = 0
    for operand in insn.operands:
        if isinstance(operand, MemoryOperand):
            narrow = operand.address_size == 2 and insn.implicit != "string"
            found |= 1 << operand.segment + _NARROW * narrow
    if insn.implicit not in ("", "bits", "string", "xlat", "maskmov"):
        found |= 1 << SS  # by a stack pointer that may have 16 bits, but may be 0, too
    return found
