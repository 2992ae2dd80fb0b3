"""Checks of an operand's address that a CPU makes before it accesses memory, and Unicorn does not.

Unicorn neither raises #GP for a misaligned 16-byte SSE operand nor #AC, and raises #GP where a
non-canonical stack address is #SS. The real CPU does; so the software engines call these checks first.
#AC is checked for every engine, since CPUs differ in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cores.x86.faults import GuestFault, general_protection, stack_fault
from cores.x86.isa.accesses import accesses, effective_address, segmented_accesses
from cores.x86.isa.branches import NEAR, holds
from cores.x86.isa.encoding import TWO_BYTE, parse
from cores.x86.isa.instruction import (
    Immediate,
    Instruction,
    MemoryOperand,
    Register,
    Sensitivity,
)
from cores.x86.isa.prefixes import normalized
from cores.x86.isa.rep_step import iterations_left
from cores.x86.mmu.segmentation import linear, within_limit
from cores.x86.registers import (
    CS,
    MASK32,
    MASK64,
    RBP,
    RSP,
    Cr0,
    Flag,
    Vector,
    canonical,
    register_number,
)

if TYPE_CHECKING:
    from cores.x86.virtual_cpu import VirtualCpu

_UNALIGNED = frozenset({
    "movups", "movupd", "movdqu", "lddqu",
    "pcmpestri", "pcmpestrm", "pcmpistri", "pcmpistrm", "maskmovdqu",
})  # fmt: skip
"""SSE instructions whose 16-byte operand need not be aligned (SDM vol. 2, table 2-21, and the
instructions' pages)."""

_ENVIRONMENTS = frozenset({14, 28, 94, 108})
"""Bytes that FNSTENV, FLDENV, FNSAVE and FRSTOR access, with 16-bit operands and with others."""

STACK_SEGMENT = 2
_PAGE = 4096


def mistranslated(insn: Instruction) -> bool:
    """Whether Unicorn executes it wrongly without reporting an error. With a REX prefix its LAHF and
    SAHF use SPL for AH; it sign-extends the number of bytes that RET releases; before the immediate of
    SHLD and SHRD its RIP is a byte too low. POPCNT and CRC32 of 16-bit code have the other operand size
    (its decoder asks for the prefix alone). LOCK NEG's flags are those of another value, 16-bit ENTER
    subtracts all of RBP from RSP, and it obeys prefixes that others overrule."""
    if normalized(insn.code, insn.bits) is not None:
        return True
    if insn.mnemonic in ("lahf", "sahf"):
        return insn.bits == 64 and insn.length > 1 and insn.code[-2] & 0xF0 == 0x40
    if insn.mnemonic == "ret" and insn.operands:
        return insn.code[-1] >= 0x80
    if insn.mnemonic == "neg":
        return insn.lock
    if insn.mnemonic == "enter":
        return insn.operand_size == 2
    if insn.bits == 16 and insn.mnemonic in ("popcnt", "crc32"):
        return b"\x0f\x38\xf0" not in insn.code  # CRC32 of a byte is right
    if insn.mnemonic in ("shld", "shrd") and isinstance(insn.operands[2], Immediate):
        operand = insn.operands[0]
        return isinstance(operand, MemoryOperand) and operand.relative
    return False


def check_segments(insn: Instruction, cpu: VirtualCpu) -> None:
    """Raises the #GP(0) or #SS(0) of an access that its segment does not permit by limit, type or
    presence; for 16- and 32-bit code. Of a REP instruction the next iteration is checked."""
    for (segment, offset), length, write in segmented_accesses(insn, cpu):
        linear(cpu, segment, offset, length, write=write)


def leaves_segments(insn: Instruction, cpu: VirtualCpu) -> bool:
    """Whether a REP in 16- or 32-bit code goes beyond its segments or its address size before its
    count ends: then one of its iterations faults or wraps."""
    length = insn.operand_size * max(iterations_left(insn, cpu), 1)
    back = length - insn.operand_size if cpu.rflags & Flag.DF else 0
    wraps = 1 << 8 * insn.address_size
    return any(
        not (offset - back >= 0 and offset - back + length <= wraps)
        or not within_limit(cpu.segments[segment], offset - back, length)
        for (segment, offset), _, _ in segmented_accesses(insn, cpu)
    )


def check_branch(insn: Instruction, cpu: VirtualCpu, peek: Callable[[int, int], bytes]) -> None:
    """Raises GuestFault #GP(0) for a near branch beyond the limit of CS, in 16- and 32-bit code;
    Unicorn would branch and fault there. peek: as for ``check_call``."""
    limit = cpu.segments[CS].limit
    if limit == MASK32 or insn.sensitivity is not Sensitivity.ORDINARY:
        return
    target = _near_target(insn, cpu, peek)
    if target is not None and target > limit:
        raise general_protection()


def _near_target(insn: Instruction, cpu: VirtualCpu, peek: Callable[[int, int], bytes]) -> int | None:
    """The offset to which a near branch leads if it is taken, None where that is not known."""
    mask = (1 << 8 * insn.operand_size) - 1
    operand = insn.operands[0] if insn.operands else None
    if insn.mnemonic == "ret":
        ((gva, length, _),) = accesses(insn, cpu)
    elif isinstance(operand, Immediate):
        if insn.mnemonic not in NEAR and not _taken(insn, cpu):
            return None
        return cpu.rip + insn.length + operand.value & mask
    elif isinstance(operand, Register):
        return cpu.gpr[register_number(operand.name)] & mask
    elif isinstance(operand, MemoryOperand):
        gva, length = effective_address(operand, cpu, insn.length), insn.operand_size
    else:
        return None
    try:
        there = peek(gva, length)
    except GuestFault:
        return None
    return int.from_bytes(there, "little") if len(there) == length else None


def _taken(insn: Instruction, cpu: VirtualCpu) -> bool:
    """Whether a conditional jump is taken; not known of LOOP and JCXZ."""
    encoding = parse(insn.code, insn.bits)
    conditional = 0x70 <= encoding.opcode <= 0x7F or encoding.map == TWO_BYTE
    return conditional and holds(encoding.opcode & 0xF, cpu.rflags)


def check_operands(insn: Instruction, cpu: VirtualCpu, translate: Callable[..., int]) -> None:
    """Raises GuestFault #GP(0) for a misaligned SSE operand, and the #PF of a 16-byte store across two
    pages, of which Unicorn would store the first half. translate: ``Mmu.translate``. Called for
    instructions with memory operands."""
    if insn.bits != 64:
        check_segments(insn, cpu)
    if not insn.floating:
        return
    for gva, length, write in accesses(insn, cpu):
        if length == 16 and gva % 16 and _must_be_aligned(insn):
            raise general_protection()
        if write and length == 16 and gva % _PAGE > _PAGE - length:
            translate(gva, write=True)
            translate((gva | _PAGE - 1) + 1 & MASK64, write=True)


def check_alignment(insn: Instruction, cpu: VirtualCpu) -> None:
    """Raises GuestFault #AC(0) for a misaligned operand of user code with alignment checks on (SDM vol.
    3, 6.15 and table 6-7)."""
    if not (cpu.rflags & Flag.AC and cpu.cr0 & Cr0.AM and cpu.cpl == 3):
        return
    if insn.bits != 64:
        check_segments(insn, cpu)
    for gva, length, _ in accesses(insn, cpu):
        if not canonical(gva):
            return  # #GP or #SS comes first
        if length and gva % _unit(insn, length):
            raise GuestFault(Vector.AC, 0)


def _unit(insn: Instruction, length: int) -> int:
    """The alignment that #AC asks of an access of ``length`` bytes. Of an unaligned SSE access it may
    ask none, 8 bytes or 16, by the CPU's make: 16 here (cpu_differences.py)."""
    if insn.repeat or insn.mnemonic == "enter":  # several accesses, listed as one
        return insn.operand_size
    if length in (2, 4, 8):
        return length
    if length == 10:
        return 8
    if length in _ENVIRONMENTS:
        return 2 if insn.operand_size == 2 else 4
    if length == 16 and insn.floating:
        return 8 if insn.implicit == "maskmov" else 16
    return 1


def _must_be_aligned(insn: Instruction) -> bool:
    return insn.mnemonic not in _UNALIGNED


def address_fault(insn: Instruction, cpu: VirtualCpu) -> GuestFault:
    """The fault of a non-canonical operand: #SS(0) through the stack segment, else #GP(0)."""
    if all(canonical(gva) and canonical(gva + n - 1 & MASK64) for gva, n, _ in accesses(insn, cpu)):
        return general_protection()  # the target of a branch is not canonical
    explicit = [o for o in insn.operands if isinstance(o, MemoryOperand)]
    if any(_through_stack(o) for o in explicit):
        return stack_fault()
    if not explicit and insn.implicit and not canonical(cpu.gpr[RSP]):
        return stack_fault()
    return general_protection()


def beyond_canonical(insn: Instruction, cpu: VirtualCpu, address: int) -> bool:
    """Whether the platform's CPU would have found a non-canonical address instead of the page fault at
    ``address``. Either the address itself is one (a CPU with 5-level paging has 57 linear bits, and
    takes some of them for unmapped), or its operand begins at a canonical address and ends at a
    non-canonical one: the CPU checks that first, whether or not the beginning is mapped."""
    if not canonical(address):
        return True
    return any(
        canonical(gva) and not canonical(gva + length - 1 & MASK64) and address - gva & MASK64 < length
        for gva, length, _ in accesses(insn, cpu)
        if not insn.repeat
    )


def check_call(insn: Instruction, cpu: VirtualCpu, peek: Callable[[int, int], bytes]) -> None:
    """Raises GuestFault #GP(0) for a near CALL to a non-canonical address, which pushes nothing (SDM
    vol. 2, CALL). Unicorn pushes, then jumps; so does a CPU with 5-level paging where the target has 57
    bits. peek: ``Mmu.peek``; a target that it cannot read is left to the engine that executes the
    CALL."""
    if insn.bits != 64:
        return  # it has a limit, which ``check_branch`` looks at
    operand = insn.operands[0]
    if isinstance(operand, Immediate):
        target = cpu.rip + insn.length + operand.value & MASK64
    elif isinstance(operand, Register):
        target = cpu.gpr[register_number(operand.name)]
    else:
        try:
            there = peek(effective_address(operand, cpu, insn.length), 8)
        except GuestFault:
            return
        target = int.from_bytes(there, "little") if len(there) == 8 else 0
    if not canonical(target):
        raise general_protection()


def _through_stack(operand: MemoryOperand) -> bool:
    return operand.segment == STACK_SEGMENT or (operand.segment < 4 and operand.base in (RSP, RBP))
