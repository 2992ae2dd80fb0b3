"""Triple-fault analysis: finds the exception whose delivery ended in a shutdown.

When the CPU can deliver neither an exception nor the double fault that results, KVM reports a shutdown
without naming the exception. VT-x leaves the registers as they were before the deliveries; AMD-V leaves
none (kvm_amd resets the vCPU). In exact mode the state before the instruction is still known: each
exception that the instruction may raise is delivered on trial, without storing anything, and the one
that ends in a shutdown is the cause.
"""

from __future__ import annotations

from cores.engines.kvm import guest_handlers as handlers
from cores.engines.kvm.operand_faults import operand_fault
from cores.x86.faults import GuestFault, Refused
from cores.x86.isa.accesses import Access, accesses
from cores.x86.isa.instruction import Instruction
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import MASK64, RCX, RDI, RSI, Flag, Vector
from cores.x86.system.interrupts import Outcome, deliver_event
from cores.x86.virtual_cpu import VirtualCpu

_UNLIKELY = frozenset({Vector.GP, Vector.SS})
"""Vectors tried last when the instruction's addresses are good: its other exceptions are likelier."""


class _Trial(Mmu):
    """An MMU for trial deliveries: it sets accessed bits, as the CPU did, and stores nothing."""

    def write(self, gva: int, data: bytes, *, user: bool | None = None, implicit: bool = False) -> None:
        for at in (gva & MASK64, (gva + len(data) - 1) & MASK64):
            self.translate(at, write=True, user=user, implicit=implicit)


def cause(mmu: Mmu, cpu: VirtualCpu, insn: Instruction) -> GuestFault | None:
    """The exception of ``insn`` that ended in the shutdown; None where none is found. cpu: the state
    before ``insn``. For a REP instruction ``cpu`` is advanced by the iterations that were complete; the
    flags of CMPS and SCAS stay as they were."""
    for fault in _raised(mmu, cpu, insn):
        trial = cpu.copy()
        try:
            delivery = deliver_event(_Trial(mmu.memory, trial), trial, fault)
        except Refused:  # for want of a handler in real mode, where a CPU does not shut down
            continue
        if delivery.outcome is Outcome.SHUTDOWN:
            return fault
    return None


def _raised(mmu: Mmu, cpu: VirtualCpu, insn: Instruction) -> list[GuestFault]:
    """The fault that one of the addresses of ``insn`` raises; if all are good, those it may raise."""
    if insn.implicit == "string":
        if (fault := _advance(mmu, cpu, insn)) is not None:
            return [fault]
    else:
        if (fault := operand_fault(mmu, cpu, insn)) is not None:
            return [fault]
    vectors = [v for v in handlers.possible(insn, cpu) if v != Vector.PF]
    return [GuestFault(v) for v in sorted(vectors, key=_UNLIKELY.__contains__)]


def _advance(mmu: Mmu, cpu: VirtualCpu, insn: Instruction) -> GuestFault | None:
    """The fault that ends a string instruction; ``cpu`` is advanced to the iteration that raised it."""
    met = [_first_fault(mmu, access, insn.operand_size, cpu) for access in accesses(insn, cpu)]
    faults = [(done, write, fault) for done, write, fault in met if fault is not None]
    if not faults:
        return None
    done, _, fault = min(faults, key=lambda found: found[:2])  # MOVS reads first
    if insn.repeat:
        mask = (1 << insn.address_size * 8) - 1
        cpu.gpr[RCX] = (cpu.gpr[RCX] - done) & mask
        step = done * insn.operand_size * (-1 if cpu.rflags & Flag.DF else 1)
        moved = {"movs": (RSI, RDI), "cmps": (RSI, RDI), "lods": (RSI,)}.get(insn.mnemonic, (RDI,))
        for register in moved:
            cpu.gpr[register] = (cpu.gpr[register] + step) & mask
    return fault


def _first_fault(
    mmu: Mmu, access: Access, size: int, cpu: VirtualCpu
) -> tuple[int, bool, GuestFault | None]:
    """(elements before the fault, is it a store, the fault), walking the pages in DF's direction."""
    gva, length, write = access
    down = bool(cpu.rflags & Flag.DF)
    at, done, count = (gva + length - size if down else gva) & MASK64, 0, length // size
    while done < count:
        try:
            mmu.translate(at, write=write)
            mmu.translate((at + size - 1) & MASK64, write=write)
        except GuestFault as fault:
            return done, write, fault
        inside = at % PAGE // size + 1 if down else max(1, (PAGE - at % PAGE) // size)
        done += inside
        at = (at - inside * size if down else at + inside * size) & MASK64
    return done, write, None
