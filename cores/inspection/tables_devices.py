"""Views of a machine's descriptor tables and devices, decoded (SDM vol. 3, ch. 3, 6 and 7)."""

from __future__ import annotations

from dataclasses import dataclass

from cores.machine.machine import Machine
from cores.x86.faults import GuestFault
from cores.x86.registers import MASK64, SEGMENT_NAMES, VECTOR_NAMES
from cores.x86.system.descriptors import (
    CALL_GATE,
    INTERRUPT_GATE,
    LDT,
    TRAP_GATE,
    TSS_AVAILABLE,
    TSS_BUSY,
    Descriptor,
)

MOST_ENTRIES = 256
"""Entries shown of a GDT, which may have 8192."""
VECTORS = 256
GATE = 16
_SYSTEM_TYPES = {
    LDT: "LDT", TSS_AVAILABLE: "TSS, available", TSS_BUSY: "TSS, busy", CALL_GATE: "call gate",
    INTERRUPT_GATE: "interrupt gate", TRAP_GATE: "trap gate",
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
class TablesView:
    """gdtr, idtr: (base, limit). tss: (name, value) of its stack pointers. symbols: address -> name."""

    gdtr: tuple[int, int]
    idtr: tuple[int, int]
    segments: tuple[SegmentEntry, ...]
    gates: tuple[Gate, ...]
    tss: tuple[tuple[str, int], ...]
    symbols: dict[int, str]


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
    )  # fmt: skip


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
        wide = bool(low) and not low >> 44 & 1
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
    count = min((cpu.idtr.limit + 1) // GATE, VECTORS)
    words = _quadwords(machine, cpu.idtr.base, 2 * count) or []
    gates = []
    for vector in range(len(words) // 2):
        d = Descriptor(
            words[2 * vector], words[2 * vector + 1], (cpu.idtr.base + GATE * vector) & MASK64
        )
        if not d.low and not d.high:
            continue
        gates.append(
            Gate(
                vector, VECTOR_NAMES.get(vector, ""),
                _SYSTEM_TYPES.get(d.type, f"reserved type {d.type:x}"),
                d.gate_selector, d.gate_offset, d.dpl, d.low >> 32 & 7, d.present,
            )
        )  # fmt: skip
    return gates


def _stacks(machine: Machine) -> tuple[tuple[str, int], ...]:
    """(name, value) of the stack pointers in the TSS (SDM vol. 3, figure 8-11)."""
    try:
        data = machine.vmm.mmu.peek(machine.cpu.tr.base, 0x68)
    except GuestFault:
        return ()
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
