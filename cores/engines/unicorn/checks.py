"""Checks that Unicorn omits, and corrections of faults that it reports wrongly.

QEMU's translator omits some of a CPU's checks: it raises no #AC, no #GP for a misaligned SSE operand,
#GP in place of #SS, and a page fault at the wrong half of a store. Both engines on Unicorn implement
``Engine.admits`` and ``Engine.corrected`` (cores/engines/base.py) with the functions of this module.
Engines on a real CPU need none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from cores.engines.base import Fault
from cores.x86.faults import GuestFault
from cores.x86.isa.accesses import accesses, next_accesses
from cores.x86.isa.encoding import Encoding, parse
from cores.x86.isa.instruction import Instruction
from cores.x86.isa.opcodes import is_x87
from cores.x86.isa.operand_checks import (
    address_fault,
    beyond_canonical,
    check_branch,
    check_operands,
    leaves_segments,
)
from cores.x86.mmu.code_fetch import demand_ram
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import MASK64, PageFault, Vector, canonical
from cores.x86.system import x87_logarithm
from cores.x86.system.sse_denormals import may_read_denormal, reads_denormal
from cores.x86.system.x87_environment import IMAGE, lawful, mxcsr, pending
from cores.x86.system.x87_exceptions import is_unusual
from cores.x86.system.x87_stack import Stack, effect
from cores.x86.virtual_cpu import VirtualCpu

COMPARING = frozenset({"fcomi", "fcompi", "fucomi", "fucompi"})
"""x87 comparisons whose result is in RFLAGS. In free mode, too, the VMM looks at the x87 stack before
these: of empty registers the result is "unordered", and Unicorn says "equal"."""


def admits(
    insn: Instruction, cpu: VirtualCpu, mmu: Mmu, read_fpu: Callable[[], bytes], *, sse_faults: bool
) -> bool:
    """Would Unicorn execute ``insn`` as the SDM says? Raises the GuestFault that Unicorn would omit.
    sse_faults: MXCSR does not mask all exceptions; Unicorn raises none of them."""
    if insn.access or insn.implicit:
        check_operands(insn, cpu, mmu.translate)
    if insn.mistranslated or (insn.repeat and insn.bits != 64 and leaves_segments(insn, cpu)):
        return False
    if insn.ends_block and insn.bits != 64:
        check_branch(insn, cpu, mmu.peek)
    if not insn.floating:
        return True
    if is_x87(parse(insn.code, insn.bits)):
        return _x87_as_a_cpu(insn, cpu, mmu, read_fpu)
    return not (sse_faults or _newly_denormal(insn, cpu, mmu, read_fpu))


def _newly_denormal(
    insn: Instruction, cpu: VirtualCpu, mmu: Mmu, read_fpu: Callable[[], bytes]
) -> bool:
    """Does an SSE instruction set MXCSR.DE? Unicorn never does."""
    if not may_read_denormal(insn):
        return False
    image = read_fpu()
    return not mxcsr(image) & 0x02 and reads_denormal(insn, image, _read(insn, cpu, mmu))


def _x87_as_a_cpu(insn: Instruction, cpu: VirtualCpu, mmu: Mmu, read_fpu: Callable[[], bytes]) -> bool:
    """False for an x87 instruction that meets a stack fault, copies to an empty register, has a
    denormal operand, may raise an exception that is not masked, or loads reserved bits of FCW. Raises
    GuestFault #MF where an exception is pending; Unicorn looks for it at FWAIT alone."""
    encoding = parse(insn.code, insn.bits)
    if not _is_control(encoding) and pending(read_fpu()):
        raise GuestFault(Vector.MF)
    if insn.mnemonic == "fldcw":
        return not _loads_reserved_bits(insn, cpu, mmu)
    what = effect(encoding)
    if what is None:
        return True
    stack = Stack(read_fpu())
    if not (stack.delivers_all and stack.as_a_translator_has_it(what)):
        return False
    if x87_logarithm.computes(encoding) and x87_logarithm.is_beyond(encoding, stack):
        return False
    return not is_unusual(encoding, what, stack, _read(insn, cpu, mmu))


def may_stack_fault(insn: Instruction) -> bool:
    """Is it an x87 instruction that faults where the register stack is empty or full?"""
    if not insn.floating:
        return False
    encoding = parse(insn.code, insn.bits)
    return is_x87(encoding) and effect(encoding) is not None


def _read(insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> bytes:
    """The memory operand that an x87 or SSE instruction reads, b"" where there is none or it will
    fault."""
    if insn.access == "r":
        (gva, length, _), *_ = accesses(insn, cpu)
        with suppress(GuestFault):
            return mmu.peek(gva, length)
    return b""


def _is_control(e: Encoding) -> bool:
    """Whether it is one of the control instructions that do not wait for a pending exception: FNSTENV,
    FNSTCW, FNSAVE, FNSTSW, FNCLEX, FNINIT (SDM vol. 1, 8.3.12)."""
    if e.address is not None:
        return e.opcode in (0xD9, 0xDD) and e.reg in (6, 7)
    return (e.opcode, e.modrm) == (0xDF, 0xE0) or (e.opcode == 0xDB and 0xE0 <= e.modrm <= 0xE4)


def _loads_reserved_bits(insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> bool:
    (gva, length, _), *_ = accesses(insn, cpu)
    with suppress(GuestFault):
        control = mmu.peek(gva, length)
        return lawful(control.ljust(IMAGE, b"\0"))[:2] != control
    return False


def corrected(fault: Fault, insn: Instruction, cpu: VirtualCpu, mmu: Mmu) -> Fault:
    """The fault that a CPU would have raised where Unicorn reports ``fault``.

    Raises Unsupported where the code is in no RAM: Unicorn says #UD there."""
    vector, error, address = fault
    if vector == Vector.UD:
        demand_ram(insn, cpu, mmu)
    elif insn.bits != 64 and vector in (Vector.GP, Vector.SS):
        return fault
    elif vector == Vector.GP and not error:
        ends = (at for gva, length, _ in accesses(insn, cpu) for at in (gva, gva + length - 1))
        if all(canonical(at & MASK64) for at in ends):
            return Fault(Vector.GP, 0)  # its operand is good: a branch to a non-canonical address
        return _as_exit(address_fault(insn, cpu))  # #SS, or #GP
    elif vector == Vector.PF and address is not None:
        address = first_address(insn, cpu, address)
        if beyond_canonical(insn, cpu, address):
            return _as_exit(address_fault(insn, cpu))
        if error is not None:
            if error & PageFault.RSVD:
                error |= PageFault.P  # which Unicorn forgets for a PDE (SDM vol. 3, 4.7)
            return _page_fault(insn, cpu, mmu, error, address)
        return Fault(vector, error, address)
    return fault


def first_address(insn: Instruction, cpu: VirtualCpu, address: int) -> int:
    """The address that a CPU reports for a page fault at ``address``: Unicorn accesses the last two
    bytes of a 10-byte x87 operand first."""
    for gva, length, _ in next_accesses(insn, cpu):
        if length == 10 and gva <= address < gva + length and (gva ^ address) & -PAGE == 0:
            return gva
    return address


def _page_fault(insn: Instruction, cpu: VirtualCpu, mmu: Mmu, error: int, address: int) -> Fault:
    """The page fault that a CPU raises. It checks for write access before it reads an operand that it
    will write back (ADD [m], r), and the first of two pages first; Unicorn faults on the read, or on
    the second page."""
    for gva, length, store in next_accesses(insn, cpu):
        if store and gva <= address < gva + length:
            error |= PageFault.W
            if (gva ^ address) & -PAGE:
                try:
                    mmu.translate(gva, write=True)
                except GuestFault as first:
                    return _as_exit(first)
    return Fault(Vector.PF, error, address)


def _as_exit(fault: GuestFault) -> Fault:
    return Fault(fault.vector, fault.error, fault.address)
