"""Views of a machine: memory, page tables, descriptor tables, devices, an exit's registers.

A ``Query`` names what to show; its result is a ``View``, frozen, of one moment. A query changes
nothing: it sets no accessed bit, and no device notices it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cores.inspection import tables_devices
from cores.inspection.network import NetworkView, network_view
from cores.inspection.page_tables import PagingView, paging_view
from cores.inspection.snapshot import code_around
from cores.inspection.tables_devices import DevicesView, TablesView
from cores.machine.machine import Machine
from cores.machine.report import CodeLine
from cores.vmm.trace import IN_LONG_MODE, ExitEvent, Place, Trace
from cores.x86.faults import GuestFault
from cores.x86.isa.instruction import Reason
from cores.x86.mmu.paging import PAGE, walk
from cores.x86.registers import MASK64, STATE_NAMES

if TYPE_CHECKING:
    from cores.time_travel.history import History
    from cores.x86.virtual_cpu import VirtualCpu

Where = int | str
"""A guest virtual address, or the name of a register that holds one."""


@dataclass(frozen=True, slots=True)
class MemoryQuery:
    """``length`` bytes around ``where``, starting ``offset`` bytes after its 16-byte line's start."""

    core: str
    where: Where
    length: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class PagingQuery:
    """The page tables, with the walk of ``where``."""

    core: str
    where: Where


@dataclass(frozen=True, slots=True)
class TablesQuery:
    """GDT, IDT and TSS."""

    core: str


@dataclass(frozen=True, slots=True)
class DevicesQuery:
    """The devices' registers."""

    core: str


@dataclass(frozen=True, slots=True)
class NetworkQuery:
    """Networks, cards and packets."""

    core: str


@dataclass(frozen=True, slots=True)
class EventsQuery:
    """``count`` exits from the one numbered ``first`` (0: the machine's first)."""

    core: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class CodeQuery:
    """The instructions before and after the one at ``address``."""

    core: str
    address: int


Query = MemoryQuery | PagingQuery | TablesQuery | DevicesQuery | NetworkQuery | EventsQuery | CodeQuery


@dataclass(frozen=True, slots=True)
class MemoryView:
    """start: address of the first byte, a multiple of 16. target: the queried address. data: the bytes,
    None where nothing is mapped. changed: addresses whose bytes have changed since ``remember``."""

    start: int
    target: int
    data: tuple[int | None, ...]
    changed: frozenset[int]


@dataclass(frozen=True, slots=True)
class EventsView:
    """total: all events so far. first: the number of ``events[0]``; the oldest may be discarded."""

    first: int
    total: int
    events: tuple[ExitEvent, ...]


@dataclass(frozen=True, slots=True)
class CodeView:
    """lines: in the order of their addresses; those before are missing where the instructions'
    boundaries are not known. Empty where no instruction can be read."""

    lines: tuple[CodeLine, ...]


View = MemoryView | PagingView | TablesView | DevicesView | NetworkView | EventsView | CodeView


@dataclass(frozen=True, slots=True)
class Around:
    """The registers that an exit changed: (register, before, after)."""

    changes: tuple[tuple[str, int, int], ...]


class Inspector:
    """Answers queries about some machines. Keeps the memory last shown, to mark changed bytes."""

    def __init__(self, machines: list[Machine]) -> None:
        self._machines = machines
        self._watched: dict[str, tuple[int, int]] = {}  # core -> address and length, as last seen
        self._before: dict[str, dict[int, int | None]] = {}

    def query(self, query: Query) -> View | None:
        """The view; None when there is no such machine, or it has no such view."""
        machine = next((m for m in self._machines if m.core == query.core), None)
        if not isinstance(machine, Machine):
            return None
        match query:
            case MemoryQuery(where=where, length=length, offset=offset):
                return self._memory(machine, where, length, offset)
            case PagingQuery(where=where):
                return paging_view(machine, resolve(machine, where))
            case TablesQuery():
                return tables_devices.tables_view(machine)
            case DevicesQuery():
                return tables_devices.devices_view(machine)
            case NetworkQuery():
                return network_view(machine)
            case EventsQuery(first=first, count=count):
                return events_view(machine.vmm.trace, first, count)
            case CodeQuery(address=address):
                return CodeView(code_around(machine, address))

    def remember(self) -> None:
        """Mark changes from now on relative to the present memory."""
        for machine in self._machines:
            if isinstance(machine, Machine) and machine.core in self._watched:
                start, length = self._watched[machine.core]
                data = peek(machine, start, length)
                self._before[machine.core] = dict(enumerate(data, start))

    def _memory(self, machine: Machine, where: Where, length: int, offset: int) -> MemoryView:
        target = resolve(machine, where)
        start = (target & -16) + offset & MASK64
        data = peek(machine, start, length)
        self._watched[machine.core] = start, length
        before = self._before.get(machine.core, {})
        changed = frozenset(
            at for at, byte in enumerate(data, start) if at in before and before[at] != byte
        )
        return MemoryView(start, target, data, changed)


def resolve(machine: Machine, where: Where) -> int:
    """The address that ``where`` means at present."""
    if isinstance(where, int):
        return where & MASK64
    return machine.cpu.state()[STATE_NAMES.index(where)] if where in STATE_NAMES else 0


def peek(machine: Machine, start: int, length: int) -> tuple[int | None, ...]:
    """Bytes of the guest's virtual memory, None where its page tables map nothing."""
    found: list[int | None] = []
    while len(found) < length:
        at = start + len(found) & MASK64
        here = min(length - len(found), PAGE - at % PAGE)
        try:
            gpa = walk(machine.memory, machine.cpu, at, user=False, mark=False).gpa
        except GuestFault:
            found += [None] * here
            continue
        memory = machine.memory
        data = (
            memory.view[gpa : gpa + here] if memory.is_ram(gpa, here) else memory.device_peek(gpa, here)
        )
        found += data
    return tuple(found)


def events_view(trace: Trace, first: int, count: int) -> EventsView:
    """``count`` events of the log from number ``first``."""
    total = trace.dropped + len(trace.events)
    first = max(trace.dropped, min(first, total))
    at = first - trace.dropped
    return EventsView(first, total, tuple(trace.events[at : at + count]))


# An exit, executed again


class _Witness(Trace):
    """A trace that copies the CPU's state at each event."""

    __slots__ = ("cpu", "states")
    cpu: VirtualCpu
    states: list[VirtualCpu]

    def record(
        self,
        n: int | None,
        rip: int,
        code: bytes,
        reason: Reason,
        detail: str,
        handled: str,
        ring: int,
        place: Place = IN_LONG_MODE,
    ) -> None:
        Trace.record(self, n, rip, code, reason, detail, handled, ring, place)
        self.states.append(self.cpu.copy())


def around(history: History, number: int) -> Around | None:
    """Seek to the instruction of event ``number``, execute it again, and return the registers that the
    event changed. The machine stays there: the caller restores it."""
    machine = history.machine
    trace = machine.vmm.trace
    at = number - trace.dropped
    if not isinstance(machine, Machine) or not 0 <= at < len(trace.events):
        return None
    before_it = trace.events[at].n
    if before_it is None or before_it < history.begins:
        return None
    history.seek(before_it)
    trace = machine.vmm.trace
    skipped = number - trace.dropped - len(trace.events)
    states = _witnessed(history)
    if machine.engine.traits.delivers:  # between two accesses the instruction is incomplete
        states = [states[0], machine.cpu.copy()]
        skipped = 0
    if not 0 <= skipped < len(states) - 1:
        return None
    before, after = _flat(states[skipped]), _flat(states[skipped + 1])
    return Around(
        tuple((name, before[name], after[name]) for name in before if before[name] != after[name])
    )


def _witnessed(history: History) -> list[VirtualCpu]:
    """Step once; the state before the step, and after each of its events."""
    vmm = history.machine.vmm
    trace, states = vmm.trace, [vmm.cpu.copy()]
    witness = _Witness()
    witness.assign(trace)
    witness.cpu, witness.states = vmm.cpu, states
    vmm.trace = witness
    try:
        history.step()
    finally:
        vmm.trace = trace
        trace.assign(witness)
    return states


def _flat(cpu: VirtualCpu) -> dict[str, int]:
    """All registers that a program can change, by name."""
    values = dict(zip(STATE_NAMES, cpu.state(), strict=True))
    for name in ("gdtr", "idtr"):
        table = getattr(cpu, name)
        values |= {f"{name}.base": table.base, f"{name}.limit": table.limit}
    values |= {"ldtr": cpu.ldtr.selector, "tr": cpu.tr.selector}
    for name in ("star", "lstar", "cstar", "fmask", "kernel_gs_base", "tsc_offset"):
        values[name] = getattr(cpu, name)
    return values | {f"dr{n}": cpu.debug[n] for n in (0, 1, 2, 3, 6, 7)}
