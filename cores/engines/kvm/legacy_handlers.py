"""Exception handlers and frames outside long mode: what guest_handlers.py is for 64-bit gates.

    protected mode  gates of 8 bytes, of 32 or 16 bits, in a code segment that may have a base; SS:ESP
                    is pushed only where the ring changes
    real mode       a table of far pointers; FLAGS, CS and IP are pushed, and no error codes

A frame has no alignment that tells whether it holds an error code (SDM vol. 3, 6.12.1 and 20.1.4); the
number of bytes that were pushed does.
"""

from __future__ import annotations

from struct import iter_unpack
from typing import NamedTuple

from cores.engines.kvm.guest_handlers import DELIVERYS_OWN, GATES, WITH_ERROR
from cores.x86.faults import GuestFault
from cores.x86.mmu.paging import Mmu
from cores.x86.mode import stack_bits
from cores.x86.registers import MASK32, RSP, SS, Cr0
from cores.x86.system.descriptors import (
    INTERRUPT_GATE,
    INTERRUPT_GATE_16,
    TRAP_GATE,
    TRAP_GATE_16,
    Descriptor,
    read_descriptor,
)
from cores.x86.system.task_state import inner_stack
from cores.x86.virtual_cpu import VirtualCpu

_KINDS = frozenset({INTERRUPT_GATE, TRAP_GATE, INTERRUPT_GATE_16, TRAP_GATE_16})


class Gate(NamedTuple):
    """Where a vector leads. size: bytes of each word of its frame."""

    selector: int
    offset: int
    size: int


class Arrival(NamedTuple):
    """What the frame at a handler's entry tells. vectors: those that fit it. error: None where the
    frame holds none. rflags: as they were before the delivery."""

    vectors: list[int]
    error: int | None
    rflags: int


class LegacyHandlers:
    """The handlers of one guest outside long mode, read anew where its tables have changed."""

    def __init__(self) -> None:
        self._read: tuple[bytes, tuple[int | None, ...]] | None = None
        self._table = b""
        self._gates: list[Gate | None] = []
        self._protected = False
        self._entries: list[int | None] = [None] * GATES

    def entries(self, mmu: Mmu, cpu: VirtualCpu) -> list[int | None]:
        """The handlers' linear addresses by vector; None where the CPU would refuse the gate."""
        protected = bool(cpu.cr0 & Cr0.PE)
        size = 8 if protected else 4
        length = min(cpu.idtr.limit + 1, GATES * size) // size * size
        try:
            table = mmu.read(cpu.idtr.base, length, implicit=True) if length else b""
        except GuestFault:
            table = b""
        if table != self._table or protected is not self._protected:
            self._table, self._protected, self._read = table, protected, None
            self._gates = _gates(table) if protected else _vectors(table)
        selectors = dict.fromkeys(gate.selector for gate in self._gates if gate is not None)
        bases = {s: _code_base(mmu, cpu, s) if protected else s << 4 for s in selectors}
        read = table, tuple(bases.values())
        if read != self._read:
            self._read = read
            self._entries = [self._entry(gate, bases) for gate in self._gates]
            self._entries += [None] * (GATES - len(self._entries))
        return self._entries

    @staticmethod
    def _entry(gate: Gate | None, bases: dict[int, int | None]) -> int | None:
        if gate is None or (base := bases[gate.selector]) is None:
            return None
        return base + gate.offset & MASK32

    def arrived(self, mmu: Mmu, before: VirtualCpu, after: VirtualCpu, vectors: list[int]) -> Arrival:
        """Read the frame at SS:ESP of ``after``, the CPU at a handler of one of ``vectors``. before:
        the CPU before the instruction that has faulted, which is what ``mmu`` walks for."""
        inner = after.cpl != before.cpl
        top = inner_stack(mmu, before, after.cpl).pointer if inner else before.gpr[RSP]
        mask = (1 << stack_bits(after)) - 1
        used = top - after.gpr[RSP] & mask
        fitting = [v for v in vectors if self._frame_bytes(v, inner) == used] or vectors[:1]
        gate = self._gates[fitting[0]]
        assert gate is not None  # it has been a breakpoint
        address = after.segments[SS].base + (after.gpr[RSP] & mask) & MASK32
        frame = mmu.read(address, used, user=False, implicit=True)
        words = [
            int.from_bytes(frame[at : at + gate.size], "little") for at in range(0, used, gate.size)
        ]
        error = words.pop(0) if self._protected and fitting[0] in WITH_ERROR else None
        pushed = (1 << 8 * gate.size) - 1
        flags = before.rflags & ~pushed | words[2]
        return Arrival(fitting, error, flags & ~DELIVERYS_OWN)

    def _frame_bytes(self, vector: int, inner: bool) -> int:
        gate = self._gates[vector]
        words = (5 if inner else 3) + (self._protected and vector in WITH_ERROR)
        return words * gate.size if gate is not None else 0


def _gates(table: bytes) -> list[Gate | None]:
    found: list[Gate | None] = []
    for (low,) in iter_unpack("<Q", table):
        gate = Descriptor(low, 0, 0)
        usable = gate.system and gate.present and gate.type in _KINDS
        found.append(Gate(gate.gate_selector, gate.gate_offset, gate.gate_size) if usable else None)
    return found


def _vectors(table: bytes) -> list[Gate | None]:
    return [Gate(selector, offset, 2) for offset, selector in iter_unpack("<HH", table)]


def _code_base(mmu: Mmu, cpu: VirtualCpu, selector: int) -> int | None:
    """The base of a handler's code segment, None where there is no such segment."""
    try:
        descriptor = read_descriptor(mmu, cpu, selector)
    except GuestFault:
        return None
    return descriptor.base if descriptor.code and descriptor.present else None
