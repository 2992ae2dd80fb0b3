"""Accesses that may leave their segment: those which a translator, which checks no limits, has to leave
to the VMM even where it runs freely.

Nearly all 32-bit systems use flat segments, of which nothing has to be checked; and 16-bit addresses do
not leave a segment of 64 KiB, but for an operand that crosses its end. Kernels that keep a CPU's
variables behind FS or GS, as xv6 did, access a few bytes at constant offsets in a segment of just that
size. A mask has a bit for each segment register (1 << number), 8 bits above another one for accesses by
16-bit addresses, and 16 bits above one for accesses to its first 8 bytes.
"""

from __future__ import annotations

from cores.x86.isa.instruction import Instruction, MemoryOperand
from cores.x86.mode import is_long
from cores.x86.registers import CS, MASK16, MASK32, SS, Cr0
from cores.x86.virtual_cpu import Segment, VirtualCpu

SEGMENTS = 22
"""Bits in a mask."""
_NARROW, _FIRST = 8, 16
_FIRST_BYTES = 8
_DATA, _WRITABLE_DATA = 0x9A, 0x92
"""P, S and the type's code and writable bits; of a segment in which everything may be accessed."""
_EXPAND_DOWN = 4
_COMPUTED = frozenset({"bits", "string", "xlat", "maskmov"})
"""``Instruction.implicit`` of those that add a register to their operand's address and push nothing."""


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
            if segment.limit < _FIRST_BYTES - 1 or not is_open:
                found |= 1 << number + _FIRST
    return found


def _open(segment: Segment) -> bool:
    """Whether it is a writable, present data segment that expands up."""
    return segment.attributes & _DATA == _WRITABLE_DATA and not segment.attributes & _EXPAND_DOWN


def _in_first(insn: Instruction, operand: MemoryOperand) -> bool:
    """Does it access the segment's first bytes alone, whatever the registers are?"""
    fixed = operand.base is None and operand.index is None and insn.implicit not in _COMPUTED
    return fixed and not insn.floating and 0 <= operand.displacement <= _FIRST_BYTES - operand.size


def segments_used(insn: Instruction) -> int:
    """The mask of segments that an instruction accesses; 0 in 64-bit code."""
    if insn.bits == 64 or not (insn.access or insn.implicit):
        return 0
    found = 0
    for operand in insn.operands:
        if isinstance(operand, MemoryOperand):
            narrow = operand.address_size == 2 and insn.implicit != "string"
            found |= 1 << operand.segment + (_FIRST if _in_first(insn, operand) else _NARROW * narrow)
    if insn.implicit and insn.implicit not in _COMPUTED:
        found |= 1 << SS  # by a stack pointer that may have 16 bits, but may be 0, too
    return found
