"""Memory accesses of an instruction, computed from the registers before it runs.

Sessions compare the bytes that each instruction wrote, and the VMM checks the addresses (a device, a
page the host cannot map) before it lets the CPU execute it. All addresses are linear; ranges may wrap
at 2**64 when a guest asks for that. Only registers are read.
"""

from __future__ import annotations

from cores.x86.isa.instruction import Immediate, Instruction, MemoryOperand, Register
from cores.x86.isa.rep_step import iterations_left
from cores.x86.registers import FS, MASK64, RAX, RBP, RSP, Flag, register_number
from cores.x86.virtual_cpu import VirtualCpu

Access = tuple[int, int, bool]
"""(linear address, bytes, whether it is a write)."""

_DF = Flag.DF
_MASK32 = 0xFFFFFFFF


def effective_address(operand: MemoryOperand, cpu: VirtualCpu, length: int, offset: int = 0) -> int:
    """Linear address of ``operand`` in an instruction of ``length`` bytes at ``cpu.rip``
    (SDM vol. 1, 3.7.5). offset: added to the effective address."""
    gpr = cpu.gpr
    address = operand.displacement + offset
    if operand.base is not None:
        address += gpr[operand.base]
    elif operand.relative:
        address += cpu.rip + length
    if operand.index is not None:
        address += gpr[operand.index] * operand.scale
    if operand.address_size == 4:
        address &= _MASK32
    if operand.segment >= FS:
        address += cpu.segments[operand.segment].base
    return address & MASK64


def accesses(insn: Instruction, cpu: VirtualCpu) -> tuple[Access, ...]:
    """Every range that ``insn`` may read or write; ``cpu`` is the state before it.

    May: a masked store and the comparison of REPE CMPS can end earlier. A REP instruction counts with
    all its iterations, their number times the operand size, however much that is."""
    implicit = insn.implicit
    if not implicit:
        return _explicit(insn, cpu) if insn.access else ()
    if implicit == "string":
        return _string(insn, cpu)
    size = insn.operand_size
    rsp = cpu.gpr[RSP]
    if implicit == "bits":
        return _explicit(insn, cpu)
    if implicit == "push":
        return (*_explicit(insn, cpu), ((rsp - size) & MASK64, size, True))
    if implicit == "pop":  # the destination's address is computed with RSP already raised
        return ((rsp, size, False), *_explicit(insn, cpu, size))
    if implicit == "call":
        return (*_explicit(insn, cpu), ((rsp - 8) & MASK64, 8, True))
    if implicit == "ret":
        return ((rsp, 8, False),)
    if implicit == "leave":
        return ((cpu.gpr[RBP], size, False),)
    return _rare(insn, cpu, implicit, size, rsp)


def next_accesses(insn: Instruction, cpu: VirtualCpu) -> tuple[Access, ...]:
    """``accesses``, but of a REP instruction only its next iteration."""
    return _string(insn, cpu, 1) if insn.implicit == "string" else accesses(insn, cpu)


def bus_accesses(insn: Instruction, cpu: VirtualCpu) -> tuple[Access, ...]:
    """``accesses`` as a device sees them: an operand that is read and written again is two accesses."""
    found = accesses(insn, cpu)
    if insn.access != "rw":
        return found
    ((address, length, _),) = _explicit(insn, cpu)
    return ((address, length, False), *found)


def written_ranges(insn: Instruction, cpu: VirtualCpu) -> tuple[tuple[int, int], ...]:
    """The ranges (linear address, bytes) that ``insn`` may write."""
    if not insn.implicit:
        if insn.access in ("", "r"):
            return ()
        ((address, length, _),) = _explicit(insn, cpu)
        return ((address, length),)
    return tuple((address, length) for address, length, write in accesses(insn, cpu) if write)


def _explicit(insn: Instruction, cpu: VirtualCpu, raised: int = 0) -> tuple[Access, ...]:
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
    address = effective_address(operand, cpu, insn.length, offset)
    return ((address, operand.size, insn.access != "r"),)


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


def _string(insn: Instruction, cpu: VirtualCpu, most: int = 1 << 64) -> tuple[Access, ...]:
    size, count = insn.operand_size, iterations_left(insn, cpu)
    if count == 0:
        return ()
    length = size * min(count, most)
    back = length - size if cpu.rflags & _DF else 0
    stores = insn.mnemonic in ("movs", "stos", "ins")
    return tuple(
        ((effective_address(o, cpu, insn.length) - back) & MASK64, length, stores and position == 0)
        for position, o in enumerate(insn.operands)
        if isinstance(o, MemoryOperand)
    )


def _rare(insn: Instruction, cpu: VirtualCpu, implicit: str, size: int, rsp: int) -> tuple[Access, ...]:
    if implicit == "enter":
        return _enter(insn, cpu, size, rsp)
    if implicit == "lcall":
        return (*_explicit(insn, cpu), ((rsp - 2 * size) & MASK64, 2 * size, True))
    if implicit == "retf":
        return ((rsp, 2 * size, False),)
    if implicit == "iret":  # in 64-bit mode always RIP, CS, RFLAGS, RSP and SS
        return ((rsp, 5 * size, False),)
    operand = insn.operands[-1]
    assert isinstance(operand, MemoryOperand)
    if implicit == "xlat":
        address = effective_address(operand, cpu, insn.length, cpu.gpr[RAX] & 0xFF)
        return ((address, 1, False),)
    assert implicit == "maskmov"
    return ((effective_address(operand, cpu, insn.length), operand.size, True),)


def _enter(insn: Instruction, cpu: VirtualCpu, size: int, rsp: int) -> tuple[Access, ...]:
    """SDM vol. 2, ENTER: pushes RBP, copies level - 1 frame pointers, pushes the new one."""
    level = insn.operands[1]
    assert isinstance(level, Immediate)
    depth = level.value & 31
    pushes = 1 + depth
    written = ((rsp - pushes * size) & MASK64, pushes * size, True)
    if depth < 2:
        return (written,)
    copied = (depth - 1) * size
    return (((cpu.gpr[RBP] - copied) & MASK64, copied, False), written)


def overwrites_itself(insn: Instruction, cpu: VirtualCpu) -> bool:
    """Whether a string instruction with REP stores to its own bytes, in this or a later iteration. A
    CPU finishes the instruction that it has begun; an engine that stops in the middle would go on with
    the new bytes."""
    begin, end = cpu.rip, cpu.rip + insn.length
    stores = ((gva, length) for gva, length, store in accesses(insn, cpu) if store)
    return any(gva < end and begin < gva + length for gva, length in stores)
