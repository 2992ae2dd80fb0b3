"""Delivery of interrupts and exceptions to the guest's handlers, in every mode (SDM vol. 3, ch. 6 and
20.1.4).

    long mode       gates of 16 bytes; a frame of 8-byte words, always with SS:RSP, on a stack that may
                    come from the interrupt stack table
    protected mode  gates of 8 bytes, 32-bit or 16-bit; SS:ESP is pushed only where the ring changes
    real mode       a table of far pointers; FLAGS, CS and IP are pushed, and no error codes

One implementation for every engine that does not deliver events itself. ``deliver`` is one delivery,
all or nothing; ``deliver_event`` handles faults during delivery, up to the double and triple fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cores.x86.faults import GuestFault, Refused, general_protection, segment_not_present
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.mmu.segmentation import code_address
from cores.x86.mmu.stack import Stack
from cores.x86.mode import Mode, mode
from cores.x86.registers import (
    CS,
    MASK32,
    MASK64,
    RSP,
    SS,
    VECTOR_NAMES,
    Cr0,
    Efer,
    Flag,
    Vector,
    canonical,
)
from cores.x86.system.descriptors import (
    INTERRUPT_GATE,
    INTERRUPT_GATE_16,
    TASK_GATE,
    TRAP_GATE,
    TRAP_GATE_16,
    Descriptor,
    is_null,
    load_real,
    mark_accessed,
    read_descriptor,
    to_segment,
)
from cores.x86.system.task_state import inner_stack
from cores.x86.virtual_cpu import VirtualCpu

_LONG_GATES = frozenset({INTERRUPT_GATE, TRAP_GATE})
_LEGACY_GATES = _LONG_GATES | {INTERRUPT_GATE_16, TRAP_GATE_16}
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
_CLEARED_IN_REAL_MODE = Flag.TF | Flag.IF | Flag.AC | Flag.RF


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
    here = code_address(cpu, cpu.rip)
    if first.vector == Vector.PF and first.address == here and here < PAGE:
        why = f"the program jumped or returned to address {cpu.rip:#x}, where nothing is mapped"
    else:
        why = f"{describe(first)} at {'RIP' if mode(cpu) is Mode.LONG else 'EIP'} {cpu.rip:#x}"
    if cpu.idtr.limit < _entry_bytes(cpu) - 1:
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

    Raises GuestFault with ``cpu`` unchanged but for CR2, and Refused for task gates.
    """
    exception = not software and not external
    if exception and vector == Vector.PF and address is not None:
        cpu.cr2 = address
    image = cpu.rflags
    if exception and vector not in _NOT_FAULTS:
        image |= _RF
    rip = cpu.rip if return_rip is None else return_rip
    if not cpu.cr0 & Cr0.PE:
        _deliver_in_real_mode(mmu, cpu, vector, image, rip, software=software)
        return
    ext = 0 if software else _EXT
    long = cpu.efer & Efer.LMA
    gate = _read_gate(mmu, cpu, vector, software, ext)
    selector = gate.gate_selector
    descriptor = _handler_segment(mmu, cpu, selector, ext)
    cpl = cpu.cpl if descriptor.conforming else descriptor.dpl
    if long and not canonical(gate.gate_offset):
        raise general_protection(ext)

    size = 8 if long else gate.gate_size
    frame = [image, cpu.segments[CS].selector, rip]
    if long or cpl != cpu.cpl:
        frame = [cpu.segments[SS].selector, cpu.gpr[RSP], *frame]
    if exception and vector in _WITH_ERROR:
        frame.append(error or 0)
    stack = _handler_stack(mmu, cpu, gate, cpl, ext)
    if not long and gate.gate_offset > descriptor.limit:
        raise general_protection(ext)
    mark_accessed(mmu, descriptor)
    stack.push(frame, size)

    stack.commit()
    cpu.segments[CS] = to_segment(selector & 0xFFFC | cpl, descriptor)
    cpu.rip = gate.gate_offset
    trap_gate = gate.type in (TRAP_GATE, TRAP_GATE_16)
    cpu.rflags &= ~(_CLEARED if trap_gate else _CLEARED | _IF)
    cpu.interrupt_shadow = False


def _deliver_in_real_mode(
    mmu: Mmu, cpu: VirtualCpu, vector: int, image: int, rip: int, *, software: bool
) -> None:
    """Enter the handler to which the interrupt vector table points (SDM vol. 3, 20.1.4)."""
    if vector * 4 + 3 > cpu.idtr.limit:
        raise general_protection()
    pointer = mmu.read_number((cpu.idtr.base + vector * 4) & MASK32, 4, implicit=True)
    if not pointer:
        raise _no_handler(cpu, vector, software=software)
    stack = Stack.current(mmu)
    stack.push([image, cpu.segments[CS].selector, rip], 2)
    stack.commit()
    load_real(cpu, CS, pointer >> 16)
    cpu.rip = pointer & 0xFFFF
    cpu.rflags &= ~_CLEARED_IN_REAL_MODE
    cpu.interrupt_shadow = False


_BIOS_SERVICES = {
    0x10: "video", 0x11: "equipment list", 0x12: "memory size", 0x13: "disk", 0x14: "serial port",
    0x15: "system", 0x16: "keyboard", 0x17: "printer", 0x18: "boot failure", 0x19: "boot",
    0x1A: "clock",
}  # fmt: skip


def _no_handler(cpu: VirtualCpu, vector: int, *, software: bool) -> Refused:
    """The end of a real-mode guest that relies on the handlers of a BIOS: the platform has none."""
    if software and vector in _BIOS_SERVICES:
        function = cpu.gpr[0] >> 8 & 0xFF
        return Refused(
            f"the guest asked the BIOS for its {_BIOS_SERVICES[vector]} service "
            f"(int {vector:#x}, AH = {function:#x}): this platform has no BIOS"
        )
    name = VECTOR_NAMES.get(vector, f"interrupt {vector:#x}")
    return Refused(
        f"{name} in real mode, for which the guest has no handler: its vector is 0000:0000, and this "
        "platform has no BIOS"
    )


def _entry_bytes(cpu: VirtualCpu) -> int:
    """The size of an entry of the interrupt table."""
    return 16 if cpu.efer & Efer.LMA else 8 if cpu.cr0 & Cr0.PE else 4


def _read_gate(mmu: Mmu, cpu: VirtualCpu, vector: int, software: bool, ext: int) -> Descriptor:
    """The IDT entry of ``vector``, checked."""
    code = vector * 8 + _IDT + ext
    size = _entry_bytes(cpu)
    offset = vector * size
    if offset + size - 1 > cpu.idtr.limit:
        raise general_protection(code)
    address = (cpu.idtr.base + offset) & (MASK64 if size == 16 else MASK32)
    raw = mmu.read(address, size, implicit=True)
    gate = Descriptor(int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little"), address)
    kinds = _LONG_GATES if size == 16 else _LEGACY_GATES
    task = size == 8 and gate.type == TASK_GATE
    if not gate.system or (gate.type not in kinds and not task):
        raise general_protection(code)
    if software and gate.dpl < cpu.cpl:
        raise general_protection(code)
    if not gate.present:
        raise segment_not_present(code)
    if task:
        raise Refused(
            f"the guest handles vector {vector:#x} by a task gate: this platform does not switch tasks "
            "in hardware"
        )
    return gate


def _handler_segment(mmu: Mmu, cpu: VirtualCpu, selector: int, ext: int) -> Descriptor:
    """The handler's code segment: present, and no less privileged than CPL; in long mode 64-bit."""
    if is_null(selector):
        raise general_protection(ext)
    code = selector & 0xFFFC | ext
    descriptor = read_descriptor(mmu, cpu, selector, ext=ext)
    if not descriptor.code or descriptor.dpl > cpu.cpl:
        raise general_protection(code)
    if cpu.efer & Efer.LMA and (not descriptor.long or descriptor.big):
        raise general_protection(code)
    if not descriptor.present:
        raise segment_not_present(code)
    return descriptor


def _handler_stack(mmu: Mmu, cpu: VirtualCpu, gate: Descriptor, cpl: int, ext: int) -> Stack:
    """The stack on which the frame is pushed: the TSS's, or the current one. In long mode it is aligned
    to 16 bytes first."""
    long = cpu.efer & Efer.LMA
    ist = gate.low >> 32 & 7 if long else 0
    if ist or cpl != cpu.cpl:
        stack = inner_stack(mmu, cpu, cpl, ext, ist)
        if cpl == cpu.cpl:
            stack.segment = cpu.segments[SS]
    elif long:
        stack = Stack(mmu, cpu.gpr[RSP], cpu.segments[SS], 64, user=cpl == 3, error=ext)
    else:
        stack = Stack.current(mmu, error=ext)
    if long:
        stack.pointer &= ~0xF
    return stack
