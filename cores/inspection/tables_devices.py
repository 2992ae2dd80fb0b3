"""Views of a machine's descriptor tables and devices, decoded (SDM vol. 3, ch. 3, 6 and 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cores.machine.machine import Machine
from cores.x86.faults import GuestFault
from cores.x86.mode import is_long
from cores.x86.registers import MASK32, MASK64, SEGMENT_NAMES, VECTOR_NAMES, Cr0, Efer
from cores.x86.system.descriptors import (
    CALL_GATE,
    CALL_GATE_16,
    INTERRUPT_GATE,
    INTERRUPT_GATE_16,
    LDT,
    TASK_GATE,
    TRAP_GATE,
    TRAP_GATE_16,
    TSS_16_AVAILABLE,
    TSS_16_BUSY,
    TSS_AVAILABLE,
    TSS_BUSY,
    Descriptor,
)
from cores.x86.virtual_cpu import VirtualCpu

MOST_ENTRIES = 256
"""Entries shown of a GDT, which may have 8192."""
VECTORS = 256
_SYSTEM_TYPES = {
    LDT: "LDT", TSS_AVAILABLE: "TSS, available", TSS_BUSY: "TSS, busy", CALL_GATE: "call gate",
    INTERRUPT_GATE: "interrupt gate", TRAP_GATE: "trap gate", CALL_GATE_16: "16-bit call gate",
    TSS_16_AVAILABLE: "16-bit TSS", TSS_16_BUSY: "16-bit TSS, busy", TASK_GATE: "task gate",
    INTERRUPT_GATE_16: "16-bit int. gate", TRAP_GATE_16: "16-bit trap gate",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One descriptor of the GDT. used: the names of the segment registers loaded from it."""

    selector: int
    kind: str
    base: int
    limit: int
    dpl: int
    present: bool
    used: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate of the IDT. name: the exception's, "" for others. stack: the IST number, 0 for none."""

    vector: int
    name: str
    kind: str
    selector: int
    offset: int
    dpl: int
    stack: int
    present: bool


@dataclass(frozen=True, slots=True)
class Loaded:
    """A segment register with its hidden part."""

    name: str
    selector: int
    base: int
    limit: int
    kind: str


@dataclass(frozen=True, slots=True)
class TablesView:
    """gdtr, idtr: (base, limit). tss: (name, value) of its stack pointers. symbols: address -> name.
    loaded: the segment registers, () in long mode, where base and limit of most have no effect."""

    gdtr: tuple[int, int]
    idtr: tuple[int, int]
    segments: tuple[SegmentEntry, ...]
    gates: tuple[Gate, ...]
    tss: tuple[tuple[str, int], ...]
    symbols: dict[int, str]
    loaded: tuple[Loaded, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceState:
    """One device: its name, and its state as (name, value in words)."""

    name: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DevicesView:
    devices: tuple[DeviceState, ...]


def tables_view(machine: Machine) -> TablesView:
    cpu = machine.cpu
    return TablesView(
        (cpu.gdtr.base, cpu.gdtr.limit), (cpu.idtr.base, cpu.idtr.limit),
        tuple(_segments(machine)), tuple(_gates(machine)), _stacks(machine),
        {address: name for name, address in machine.program.symbols.items()},
        () if is_long(cpu) else tuple(_loaded(cpu)),
    )  # fmt: skip


def _loaded(cpu: VirtualCpu) -> Iterator[Loaded]:
    for name, segment in zip(SEGMENT_NAMES, cpu.segments, strict=True):
        kind = _kind(Descriptor(segment.attributes << 40, 0, 0)) if cpu.cr0 & Cr0.PE else ""
        yield Loaded(name, segment.selector, segment.base, segment.limit, kind)


def _quadwords(machine: Machine, base: int, count: int) -> list[int] | None:
    """``count`` quadwords at ``base``; None where they cannot be read."""
    try:
        data = machine.vmm.mmu.peek(base, 8 * count) if count else b""
    except GuestFault:
        return None
    return [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data) - 7, 8)]


def _segments(machine: Machine) -> list[SegmentEntry]:
    cpu = machine.cpu
    words = _quadwords(machine, cpu.gdtr.base, min((cpu.gdtr.limit + 1) // 8, MOST_ENTRIES)) or []
    users: dict[int, list[str]] = {}
    for name, segment in (
        *zip(SEGMENT_NAMES, cpu.segments, strict=True),
        ("ldtr", cpu.ldtr),
        ("tr", cpu.tr),
    ):
        if segment.selector & 0xFFFC and not segment.selector & 4:
            users.setdefault(segment.selector & 0xFFF8, []).append(name)
    entries, skip = [], False
    for i, low in enumerate(words):
        if skip:  # the upper half of a system descriptor
            skip = False
            continue
        wide = bool(low) and not low >> 44 & 1 and bool(cpu.efer & Efer.LMA)
        skip = wide
        d = Descriptor(low, words[i + 1] if wide and i + 1 < len(words) else 0, cpu.gdtr.base + 8 * i)
        if low:
            used = tuple(users.get(8 * i, ()))
            entries.append(SegmentEntry(8 * i, _kind(d), d.base, d.limit, d.dpl, d.present, used))
    return entries


def _kind(d: Descriptor) -> str:
    if d.system:
        return _SYSTEM_TYPES.get(d.type, f"reserved type {d.type:x}")
    if not d.code:
        return "data, read/write" if d.writable else "data, read only"
    words = "64-bit code" if d.long else "32-bit code" if d.big else "16-bit code"
    return words + (", conforming" if d.conforming else "") + ("" if d.readable else ", execute only")


def _gates(machine: Machine) -> list[Gate]:
    cpu = machine.cpu
    if not cpu.cr0 & Cr0.PE:
        return _vectors(machine)
    each = 2 if cpu.efer & Efer.LMA else 1  # quadwords of a gate
    count = min((cpu.idtr.limit + 1) // (8 * each), VECTORS)
    words = _quadwords(machine, cpu.idtr.base, each * count) or []
    gates = []
    for vector in range(len(words) // each):
        low, high = words[each * vector], words[each * vector + 1] if each == 2 else 0
        d = Descriptor(low, high, (cpu.idtr.base + 8 * each * vector) & MASK64)
        if not d.low and not d.high:
            continue
        gates.append(
            Gate(
                vector, VECTOR_NAMES.get(vector, ""),
                _SYSTEM_TYPES.get(d.type, f"reserved type {d.type:x}"),
                d.gate_selector, d.gate_offset, d.dpl, d.low >> 32 & 7 if each == 2 else 0, d.present,
            )
        )  # fmt: skip
    return gates


def _vectors(machine: Machine) -> list[Gate]:
    """The interrupt vectors of real mode: offset and segment (SDM vol. 3, 21.1.4)."""
    words = _quadwords(machine, machine.cpu.idtr.base, VECTORS // 2) or []
    far = [half for word in words for half in (word & MASK32, word >> 32)]
    limit = (machine.cpu.idtr.limit + 1) // 4
    return [
        Gate(vector, VECTOR_NAMES.get(vector, ""), "vector", at >> 16, at & 0xFFFF, 0, 0, True)
        for vector, at in enumerate(far[:limit])
        if at
    ]


def _stacks(machine: Machine) -> tuple[tuple[str, int], ...]:
    """(name, value) of the stack pointers in the TSS (SDM vol. 3, figures 8-2 and 8-11)."""
    try:
        data = machine.vmm.mmu.peek(machine.cpu.tr.base, 0x68)
    except GuestFault:
        return ()
    if not machine.cpu.efer & Efer.LMA:
        if not machine.cpu.tr.selector & 0xFFFC:
            return ()
        return tuple(
            (f"{name}{n}", int.from_bytes(data[o : o + size], "little"))
            for n in range(3)
            for name, o, size in (("esp", 4 + 8 * n, 4), ("ss", 8 + 8 * n, 2))
            if o + size <= len(data)
        )
    at = {**{f"rsp{n}": 4 + 8 * n for n in range(3)}, **{f"ist{n}": 28 + 8 * n for n in range(1, 8)}}
    return tuple(
        (name, int.from_bytes(data[o : o + 8], "little"))
        for name, o in at.items()
        if o + 8 <= len(data)
    )


# Devices


def devices_view(machine: Machine) -> DevicesView:
    """The time, and the state of each device that reports one."""
    board, now = machine.board, machine.vmm.ticks
    tsc = now * 1000 + machine.cpu.tsc_offset & MASK64
    time = DeviceState("Time", (("ticks", f"{now:,} of 1 µs"), ("TSC", f"{tsc:,}")))
    told = (DeviceState(device.title, device.facts(now)) for device in board.devices)
    screen = DeviceState("VGA", board.vga.facts())
    return DevicesView((time, *(state for state in told if state.facts), screen))
