"""Memory accesses of an instruction, computed from the registers before it runs.

Sessions compare the bytes that each instruction wrote, and the VMM checks the addresses (a device, a
page the host cannot map) before it lets the CPU execute it. Addresses are linear; ranges may wrap
at the end of the address space when a guest asks for that. Only registers are read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cores.x86.isa.instruction import Immediate, Instruction, MemoryOperand, Register
from cores.x86.isa.rep_step import iterations_left
from cores.x86.mmu.segmentation import code_address, unchecked
from cores.x86.mode import DEFAULT_32
from cores.x86.registers import (
    FS,
    MASK16,
    MASK32,
    MASK64,
    RAX,
    RBP,
    RSP,
    SS,
    Flag,
    register_number,
)
from cores.x86.virtual_cpu import VirtualCpu

Access = tuple[int, int, bool]
"""(linear address, bytes, whether it is a write)."""
SegmentedAccess = tuple[tuple[int, int], int, bool]
"""((segment, offset), bytes, whether it is a write)."""

T = TypeVar("T")
Place = Callable[[VirtualCpu, int, int], T]
"""Makes of segment and offset what the caller wants: a linear address, or the pair."""

_DF = Flag.DF
_OFFSETS = {8: MASK64, 4: MASK32, 2: MASK16}


def effective_offset(operand: MemoryOperand, cpu: VirtualCpu, length: int, offset: int = 0) -> int:
    """The offset of ``operand`` in its segment, in an instruction of ``length`` bytes at ``cpu.rip``
    (SDM vol. 1, 3.7.5). offset: added to it."""
    gpr = cpu.gpr
    address = operand.displacement + offset
    if operand.base is not None:
        address += gpr[operand.base]
    elif operand.relative:
        address += cpu.rip + length
    if operand.index is not None:
        address += gpr[operand.index] * operand.scale
    return address & _OFFSETS[operand.address_size]


def effective_address(operand: MemoryOperand, cpu: VirtualCpu, length: int, offset: int = 0) -> int:
    """The linear address of ``effective_offset``, whether or not the segment permits the access."""
    address = effective_offset(operand, cpu, length, offset)
    place = _long if operand.bits == 64 else unchecked
    return place(cpu, operand.segment, address)


def _long(cpu: VirtualCpu, segment: int, offset: int) -> int:
    """``segmentation.unchecked`` in 64-bit code."""
    return offset + cpu.segments[segment].base & MASK64 if segment >= FS else offset


def _pair(cpu: VirtualCpu, segment: int, offset: int) -> tuple[int, int]:
    return segment, offset


def accesses(insn: Instruction, cpu: VirtualCpu) -> tuple[Access, ...]:
    """Every range that ``insn`` may read or write; ``cpu`` is the state before it.

    May: a masked store and the comparison of REPE CMPS can end earlier. A REP instruction counts with
    all its iterations, their number times the operand size, however much that is."""
    return _accesses(insn, cpu, _long if insn.bits == 64 else unchecked)


def segmented_accesses(insn: Instruction, cpu: VirtualCpu) -> tuple[SegmentedAccess, ...]:
    """``accesses`` by segment and offset, of a REP instruction its next iteration. For 16- and 32-bit
    code: in 64-bit code segments have no limits."""
    if insn.implicit == "string":
        return _string(insn, cpu, _pair, 1)
    return _accesses(insn, cpu, _pair)


def next_accesses(insn: Instruction, cpu: VirtualCpu) -> tuple[Access, ...]:
    """``accesses``, but of a REP instruction only its next iteration."""
    if insn.implicit == "string":
        return _string(insn, cpu, _long if insn.bits == 64 else unchecked, 1)
    return accesses(insn, cpu)


def bus_accesses(insn: Instruction, cpu: VirtualCpu) -> tuple[Access, ...]:
    """``accesses`` as a device sees them: an operand that is read and written again is two accesses."""
    found = accesses(insn, cpu)
    if insn.access != "rw":
        return found
    place = _long if insn.bits == 64 else unchecked
    ((address, length, _),) = _explicit(insn, cpu, place)
    return ((address, length, False), *found)


def written_ranges(insn: Instruction, cpu: VirtualCpu) -> tuple[tuple[int, int], ...]:
    """The ranges (linear address, bytes) that ``insn`` may write."""
    if not insn.implicit:
        if insn.access in ("", "r"):
            return ()
        ((address, length, _),) = _explicit(insn, cpu, _long if insn.bits == 64 else unchecked)
        return ((address, length),)
    return tuple((address, length) for address, length, write in accesses(insn, cpu) if write)


def _accesses(insn: Instruction, cpu: VirtualCpu, place: Place[T]) -> tuple[tuple[T, int, bool], ...]:
    implicit = insn.implicit
    if not implicit:
        return _explicit(insn, cpu, place) if insn.access else ()
    if implicit == "string":
        return _string(insn, cpu, place)
    if implicit == "bits":
        return _explicit(insn, cpu, place)
    size = insn.operand_size
    if implicit in ("push", "call"):
        return (*_explicit(insn, cpu, place), (_stack(insn, cpu, place, -size), size, True))
    if implicit == "pop":  # the destination's address is computed with RSP already raised
        return ((_stack(insn, cpu, place, 0), size, False), *_explicit(insn, cpu, place, size))
    if implicit == "ret":
        return ((_stack(insn, cpu, place, 0), size, False),)
    if implicit == "leave":
        return ((_frame(insn, cpu, place, 0), size, False),)
    return _rare(insn, cpu, place, implicit, size)


def _stack_mask(insn: Instruction, cpu: VirtualCpu) -> int:
    if insn.bits == 64:
        return MASK64
    return MASK32 if cpu.segments[SS].attributes & DEFAULT_32 else MASK16


def _stack(insn: Instruction, cpu: VirtualCpu, place: Place[T], by: int) -> T:
    """The place ``by`` bytes above the stack pointer."""
    return place(cpu, SS, cpu.gpr[RSP] + by & _stack_mask(insn, cpu))


def _frame(insn: Instruction, cpu: VirtualCpu, place: Place[T], by: int) -> T:
    """The place ``by`` bytes above the frame pointer."""
    return place(cpu, SS, cpu.gpr[RBP] + by & _stack_mask(insn, cpu))


def _explicit(
    insn: Instruction, cpu: VirtualCpu, place: Place[T], raised: int = 0
) -> tuple[tuple[T, int, bool], ...]:
    """The explicit memory operand. raised: by how many bytes POP raises RSP before the address is
    computed."""
    if not insn.access:
        return ()
    operands = insn.operands
    operand = operands[0]
    if not isinstance(operand, MemoryOperand):
        operand = next(o for o in operands if isinstance(o, MemoryOperand))
    offset = raised if operand.base == RSP else 0
    if insn.implicit == "bits":
        offset += _bit_offset(insn, cpu)
    at = place(cpu, operand.segment, effective_offset(operand, cpu, insn.length, offset))
    return ((at, operand.size, insn.access != "r"),)


def _bit_offset(insn: Instruction, cpu: VirtualCpu) -> int:
    """The byte offset that BT, BTS, BTR and BTC add when the bit index is in a register (SDM vol. 2,
    BT)."""
    source = insn.operands[1]
    assert isinstance(source, Register)
    bits = insn.operand_size * 8
    offset = cpu.gpr[register_number(source.name)] & ((1 << bits) - 1)
    if offset >> (bits - 1):
        offset -= 1 << bits
    return offset // bits * insn.operand_size


def _string(
    insn: Instruction, cpu: VirtualCpu, place: Place[T], most: int = 1 << 64
) -> tuple[tuple[T, int, bool], ...]:
    size, count = insn.operand_size, iterations_left(insn, cpu)
    if count == 0:
        return ()
    length = size * min(count, most)
    back = length - size if cpu.rflags & _DF else 0
    stores = insn.mnemonic in ("movs", "stos", "ins")
    return tuple(
        (
            place(cpu, o.segment, effective_offset(o, cpu, insn.length, -back)),
            length,
            stores and position == 0,
        )
        for position, o in enumerate(insn.operands)
        if isinstance(o, MemoryOperand)
    )


def _rare(
    insn: Instruction, cpu: VirtualCpu, place: Place[T], implicit: str, size: int
) -> tuple[tuple[T, int, bool], ...]:
    if implicit == "enter":
        return _enter(insn, cpu, place, size)
    if implicit == "lcall":
        return (*_explicit(insn, cpu, place), (_stack(insn, cpu, place, -2 * size), 2 * size, True))
    if implicit == "retf":
        return ((_stack(insn, cpu, place, 0), 2 * size, False),)
    if implicit == "iret":  # in 64-bit mode always RIP, CS, RFLAGS, RSP and SS
        words = 5 if insn.bits == 64 else 3
        return ((_stack(insn, cpu, place, 0), words * size, False),)
    if implicit == "pusha":
        return ((_stack(insn, cpu, place, -8 * size), 8 * size, True),)
    if implicit == "popa":
        return ((_stack(insn, cpu, place, 0), 8 * size, False),)
    operand = insn.operands[-1]
    assert isinstance(operand, MemoryOperand)
    if implicit == "xlat":
        offset = effective_offset(operand, cpu, insn.length, cpu.gpr[RAX] & 0xFF)
        return ((place(cpu, operand.segment, offset), 1, False),)
    assert implicit == "maskmov"
    offset = effective_offset(operand, cpu, insn.length)
    return ((place(cpu, operand.segment, offset), operand.size, True),)


def _enter(
    insn: Instruction, cpu: VirtualCpu, place: Place[T], size: int
) -> tuple[tuple[T, int, bool], ...]:
    """SDM vol. 2, ENTER: pushes RBP, copies level - 1 frame pointers, pushes the new one."""
    level = insn.operands[1]
    assert isinstance(level, Immediate)
    depth = level.value & 31
    pushes = 1 + depth
    written = (_stack(insn, cpu, place, -pushes * size), pushes * size, True)
    if depth < 2:
        return (written,)
    copied = (depth - 1) * size
    return ((_frame(insn, cpu, place, -copied), copied, False), written)


def overwrites_itself(insn: Instruction, cpu: VirtualCpu) -> bool:
    """Whether a string instruction with REP stores to its own bytes, in this or a later iteration. A
    CPU finishes the instruction that it has begun; an engine that stops in the middle would go on with
    the new bytes."""
    begin = code_address(cpu, cpu.rip)
    end = begin + insn.length
    stores = ((gva, length) for gva, length, store in accesses(insn, cpu) if store)
    return any(gva < end and begin < gva + length for gva, length in stores)
