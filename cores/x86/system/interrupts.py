"""Delivery of interrupts and exceptions through the guest's IDT in 64-bit mode (SDM vol. 3, ch. 6).

One implementation for every engine that does not deliver events itself. ``deliver`` is one delivery,
all or nothing; ``deliver_event`` handles faults during delivery, up to the double and triple fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cores.x86.faults import GuestFault, general_protection, invalid_tss, segment_not_present
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import CS, MASK64, RSP, SS, VECTOR_NAMES, Flag, Vector, canonical
from cores.x86.system.descriptors import (
    INTERRUPT_GATE,
    TRAP_GATE,
    Descriptor,
    is_null,
    mark_accessed,
    null_segment,
    read_descriptor,
    to_segment,
)
from cores.x86.virtual_cpu import VirtualCpu

_GATE_BYTES = 16
_IDT = 2
"""Error code bit: the index is one of the IDT's. EXT, below: the event is outside the instruction."""
_EXT = 1

_WITH_ERROR = frozenset({Vector.DF, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.PF, Vector.AC})
# Traps and aborts; all other exceptions are faults, and set RF in the pushed image.
_NOT_FAULTS = frozenset({Vector.DB, Vector.NMI, Vector.BP, Vector.OF, Vector.DF, Vector.MC})
_CONTRIBUTORY = frozenset({Vector.DE, Vector.TS, Vector.NP, Vector.SS, Vector.GP})
_RF = Flag.RF
_IF = Flag.IF
_CLEARED = Flag.TF | Flag.NT | Flag.RF | Flag.VM

_TSS_RSP0 = 4
_TSS_IST1 = 36


class Outcome(Enum):
    """The result of ``deliver_event``."""

    DELIVERED = "delivered"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of ``deliver_event``, and the events that led to it.

    chain: the event, and the exceptions that its delivery met, in their order; after a SHUTDOWN the
        last one is the fault that occurred while #DF was being delivered.
    """

    outcome: Outcome
    chain: tuple[GuestFault, ...]

    @property
    def story(self) -> str:
        """The chain in words: "#PF at 0x0 -> #GP(0x72) -> #DF(0x0) -> #GP(0x42) -> shutdown"."""
        end = [Outcome.SHUTDOWN.value] if self.outcome is Outcome.SHUTDOWN else []
        return " -> ".join([describe(fault) for fault in self.chain] + end)


def describe(fault: GuestFault) -> str:
    """An exception in the SDM's notation: "#GP(0x18)", "#PF at 0x0"; else "interrupt 0x20"."""
    name = VECTOR_NAMES.get(fault.vector)
    if name is None:
        return f"interrupt {fault.vector:#x}"
    if fault.vector == Vector.PF and fault.address is not None:
        return f"{name} at {fault.address:#x}"
    return name if fault.error is None else f"{name}({fault.error:#x})"


def deliver_event(
    mmu: Mmu,
    cpu: VirtualCpu,
    event: GuestFault,
    *,
    software: bool = False,
    external: bool = False,
    return_rip: int | None = None,
) -> Delivery:
    """Deliver an event, and the exceptions that its delivery raises, up to the shutdown.

    Arguments as for ``deliver``. Two contributory exceptions or page faults become #DF; a fault during
    the delivery of #DF is a triple fault (SDM vol. 3, table 6-5). Never raises GuestFault.
    """
    chain: list[GuestFault] = []
    current = event
    while True:
        chain.append(current)
        try:
            deliver(
                mmu, cpu, current.vector, current.error, address=current.address,
                software=software, external=external, return_rip=return_rip,
            )  # fmt: skip
            return Delivery(Outcome.DELIVERED, tuple(chain))
        except GuestFault as fault:
            nested = fault
        if nested.address is not None:
            cpu.cr2 = nested.address
        previous = None if software or external else current.vector
        software, external, return_rip = False, False, None
        if previous == Vector.DF:
            return Delivery(Outcome.SHUTDOWN, (*chain, nested))
        if previous is not None and _doubles(previous, nested.vector):
            chain.append(nested)
            nested = GuestFault(Vector.DF, 0)
        current = nested


def shutdown_in_words(cpu: VirtualCpu, delivery: Delivery) -> str:
    """The reason the machine shut down, in a sentence for the user; names the usual causes."""
    first = delivery.chain[0]
    if first.vector == Vector.PF and first.address == cpu.rip and cpu.rip < PAGE:
        why = f"the program jumped or returned to address {cpu.rip:#x}, where nothing is mapped"
    else:
        why = f"{describe(first)} at RIP {cpu.rip:#x}"
    if cpu.idtr.limit < _GATE_BYTES - 1:
        return f"{why}, and there is no IDT to handle it: {delivery.story}"
    return f"{why} could not be handled: {delivery.story}"


def _doubles(first: int, second: int) -> bool:
    """Whether these two exceptions make a double fault (SDM vol. 3, table 6-5), or are delivered
    serially."""
    if first == Vector.PF:
        return second == Vector.PF or second in _CONTRIBUTORY
    return first in _CONTRIBUTORY and second in _CONTRIBUTORY


def deliver(
    mmu: Mmu,
    cpu: VirtualCpu,
    vector: int,
    error: int | None = None,
    *,
    address: int | None = None,
    software: bool = False,
    external: bool = False,
    return_rip: int | None = None,
) -> None:
    """Enter the guest's handler for ``vector``.

    error: the error code to push; exceptions that have one push 0 if it is None.
    address: for #PF: goes to CR2, which keeps it even when the delivery then fails.
    software: INT n and INT3, which the gate's DPL may refuse. external: a device's interrupt.
    return_rip: the RIP to push, when it isn't ``cpu.rip`` (after INT n: the next instruction).

    Raises GuestFault with ``cpu`` unchanged but for CR2.
    """
    exception = not software and not external
    if exception and vector == Vector.PF and address is not None:
        cpu.cr2 = address
    ext = 0 if software else _EXT
    gate = _read_gate(mmu, cpu, vector, software, ext)
    selector = gate.gate_selector
    descriptor = _handler_segment(mmu, cpu, selector, ext)
    cpl = cpu.cpl if descriptor.conforming else descriptor.dpl
    if not canonical(gate.gate_offset):
        raise general_protection(ext)

    rsp = _handler_stack(mmu, cpu, gate.low >> 32 & 7, cpl, ext)
    image = cpu.rflags
    if exception and vector not in _NOT_FAULTS:
        image |= _RF
    rip = cpu.rip if return_rip is None else return_rip
    frame = [cpu.segments[SS].selector, cpu.gpr[RSP], image, cpu.segments[CS].selector, rip]
    if exception and vector in _WITH_ERROR:
        frame.append(error or 0)
    mark_accessed(mmu, descriptor)
    rsp = mmu.push(rsp, frame, user=cpl == 3, error=ext)

    if cpl != cpu.cpl:
        cpu.segments[SS] = null_segment(cpl, cpl)
    cpu.segments[CS] = to_segment(selector & 0xFFFC | cpl, descriptor)
    cpu.gpr[RSP] = rsp
    cpu.rip = gate.gate_offset
    cpu.rflags &= ~(_CLEARED | _IF if gate.type == INTERRUPT_GATE else _CLEARED)
    cpu.interrupt_shadow = False


def _read_gate(mmu: Mmu, cpu: VirtualCpu, vector: int, software: bool, ext: int) -> Descriptor:
    """The IDT entry of ``vector``, checked."""
    code = vector * 8 + _IDT + ext
    offset = vector * _GATE_BYTES
    if offset + _GATE_BYTES - 1 > cpu.idtr.limit:
        raise general_protection(code)
    address = (cpu.idtr.base + offset) & MASK64
    raw = mmu.read(address, _GATE_BYTES, implicit=True)
    gate = Descriptor(int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little"), address)
    if not gate.system or gate.type not in (INTERRUPT_GATE, TRAP_GATE):
        raise general_protection(code)
    if software and gate.dpl < cpu.cpl:
        raise general_protection(code)
    if not gate.present:
        raise segment_not_present(code)
    return gate


def _handler_segment(mmu: Mmu, cpu: VirtualCpu, selector: int, ext: int) -> Descriptor:
    """The handler's code segment: 64-bit, present, and no less privileged than CPL."""
    if is_null(selector):
        raise general_protection(ext)
    code = selector & 0xFFFC | ext
    descriptor = read_descriptor(mmu, cpu, selector, ext=ext)
    if not descriptor.code or descriptor.dpl > cpu.cpl:
        raise general_protection(code)
    if not descriptor.long or descriptor.big:
        raise general_protection(code)
    if not descriptor.present:
        raise segment_not_present(code)
    return descriptor


def _handler_stack(mmu: Mmu, cpu: VirtualCpu, ist: int, cpl: int, ext: int) -> int:
    """RSP before the frame is pushed: from the TSS, or the current one; always aligned to 16."""
    if ist:
        rsp = read_tss_stack(mmu, cpu, _TSS_IST1 + (ist - 1) * 8, ext)
    elif cpl != cpu.cpl:
        rsp = read_tss_stack(mmu, cpu, _TSS_RSP0 + cpl * 8, ext)
    else:
        rsp = cpu.gpr[RSP]
    return rsp & ~0xF


def inner_stack(mmu: Mmu, cpu: VirtualCpu, cpl: int) -> int:
    """RSP0, RSP1 or RSP2 of the TSS, for a call gate to this privilege level."""
    return read_tss_stack(mmu, cpu, _TSS_RSP0 + cpl * 8, 0)


def read_tss_stack(mmu: Mmu, cpu: VirtualCpu, offset: int, ext: int) -> int:
    """A stack pointer in the 64-bit TSS (SDM vol. 3, figure 7-11); #TS beyond its limit."""
    if not cpu.tr.present or offset + 7 > cpu.tr.limit:
        raise invalid_tss(cpu.tr.selector & 0xFFFC | ext)
    return mmu.read_u64((cpu.tr.base + offset) & MASK64, implicit=True)
