"""Descriptor tables and devices of a machine, decoded for people (SDM vol. 3, ch. 3, 6 and 7)."""

from __future__ import annotations

from dataclasses import dataclass

from cores.machine.machine import Machine
from cores.pc.devices.pic import Pic
from cores.pc.devices.pit import clock_at
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
"""Of a GDT, which may have 8192."""
VECTORS = 256
GATE = 16
_SYSTEM_TYPES = {
    LDT: "LDT", TSS_AVAILABLE: "TSS, available", TSS_BUSY: "TSS, busy", CALL_GATE: "call gate",
    INTERRUPT_GATE: "interrupt gate", TRAP_GATE: "trap gate",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One descriptor of the GDT. used: the segment registers that were loaded from it."""

    selector: int
    kind: str
    base: int
    limit: int
    dpl: int
    present: bool
    used: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate of the IDT. name: of the exception, "" for others. stack: the IST's number, 0 none."""

    vector: int
    name: str
    kind: str
    selector: int
    offset: int
    dpl: int
    stack: int
    present: bool


@dataclass(frozen=True, slots=True)
class TablesSight:
    """gdtr, idtr: (base, limit). tss: (name, value) of its stack pointers. symbols: address -> name."""

    gdtr: tuple[int, int]
    idtr: tuple[int, int]
    segments: tuple[SegmentEntry, ...]
    gates: tuple[Gate, ...]
    tss: tuple[tuple[str, int], ...]
    symbols: dict[int, str]


@dataclass(frozen=True, slots=True)
class DeviceState:
    """One device: its name, and what it holds, in words."""

    name: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DevicesSight:
    devices: tuple[DeviceState, ...]


def tables_sight(machine: Machine) -> TablesSight:
    cpu = machine.cpu
    return TablesSight(
        (cpu.gdtr.base, cpu.gdtr.limit), (cpu.idtr.base, cpu.idtr.limit),
        tuple(_segments(machine)), tuple(_gates(machine)), _stacks(machine),
        {address: name for name, address in machine.program.symbols.items()},
    )  # fmt: skip


def _quadwords(machine: Machine, base: int, count: int) -> list[int] | None:
    """As many as can be read."""
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
    """The stack pointers in the TSS (SDM vol. 3, figure 8-11)."""
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


def devices_sight(machine: Machine) -> DevicesSight:
    board = machine.board
    return DevicesSight(
        (
            _pic("PIC, master", board.pics.master, 0),
            _pic("PIC, slave", board.pics.slave, 8),
            _pit(machine),
            _uart(machine),
            _keyboard(machine),
            _clock(machine),
            _disk(machine),
            _screen(machine),
        )
    )


def _lines(bits: int, first: int) -> str:
    return " ".join(f"IRQ {first + n}" for n in range(8) if bits >> n & 1) or "none"


def _pic(name: str, pic: Pic, first: int) -> DeviceState:
    setting = f"awaits ICW{pic.awaited}" if pic.awaited else "ready"
    return DeviceState(name, (
        ("vectors", f"{pic.base:x} to {pic.base + 7:x}"),
        ("lets through", _lines(~pic.imr, first)),
        ("requested", _lines(pic.irr, first)),
        ("in service", _lines(pic.isr, first)),
        ("state", setting + (", automatic EOI" if pic.auto_eoi else "")),
    ))  # fmt: skip


def _pit(machine: Machine) -> DeviceState:
    clock = clock_at(machine.vmm.ticks)
    facts = []
    for number, counter in enumerate(machine.board.pit.counters):
        if counter.loaded is None:
            words = f"mode {counter.mode}, waits for its count"
        else:
            pin = "high" if counter.out(clock) else "low"
            words = f"mode {counter.mode}, {counter.count(clock):,} of {counter.period:,}, out {pin}"
        facts.append((f"counter {number}", words))
    return DeviceState("PIT", tuple(facts))


def _uart(machine: Machine) -> DeviceState:
    uart = machine.board.uart
    bits = ((1, "data"), (2, "empty"), (4, "error"), (8, "modem"))
    enabled = " ".join(name for bit, name in bits if uart.ier & bit)
    return DeviceState("UART", (
        ("interrupts on", enabled or "nothing"),
        ("to receive", f"{len(uart.input) - uart.taken:,} bytes"),
        ("speed", f"{115_200 // uart.divisor:,} baud" if uart.divisor else "divisor 0"),
        ("line control", f"{uart.lcr:02x}"),
        ("modem control", f"{uart.mcr:02x}" + (", loopback" if uart.mcr & 0x10 else "")),
    ))  # fmt: skip


def _keyboard(machine: Machine) -> DeviceState:
    keyboard = machine.board.keyboard
    output = "empty" if keyboard.output is None else f"{keyboard.output:02x}"
    waiting = len(keyboard.strokes) - keyboard.sent
    return DeviceState("Keyboard", (
        ("output buffer", output),
        ("keys waiting", f"{waiting:,}"),
        ("configuration", f"{keyboard.config:02x}"),
        ("scanning", "yes" if keyboard.scanning else "no"),
    ))  # fmt: skip


def _clock(machine: Machine) -> DeviceState:
    ticks = machine.vmm.ticks
    return DeviceState("Time", (
        ("ticks", f"{ticks:,} of 1 µs"),
        ("TSC", f"{ticks * 1000 + machine.cpu.tsc_offset & MASK64:,}"),
        ("CMOS index", f"{machine.board.cmos.index:02x}"),
    ))  # fmt: skip


def _disk(machine: Machine) -> DeviceState:
    ata, disk = machine.board.ata, machine.board.disk
    if disk is None:
        return DeviceState("ATA disk", (("state", "no disk"),))
    return DeviceState("ATA disk", (
        ("size", f"{disk.sectors:,} sectors"),
        ("status", f"{ata.status:02x}"),
        ("sector", f"{ata.lba:,}"),
        ("moving", f"{ata.remaining:,} sectors to go, byte {ata.at} of {len(ata.buffer)}"),
        ("interrupt", "raised" if ata.interrupt else "low"),
    ))  # fmt: skip


def _screen(machine: Machine) -> DeviceState:
    text = machine.board.screen()
    lines = 0 if text is None else text.count("\n") + 1
    return DeviceState("VGA", (("screen", "never written" if text is None else f"{lines} lines"),))
