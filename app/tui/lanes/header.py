"""The first row: the program, Popek and Goldberg's three properties in words, and what goes on."""

from __future__ import annotations

from pathlib import PurePath

from app.tui.lanes.scene import Scene, emulates, kind
from app.tui.rows.machine_parts import title
from app.tui.rows.rows import EMPTY, Row, fit_row, printable, row, row_width, spread, width_of
from cores.machine.report import MachineSnapshot, SessionSnapshot, percent
from cores.pc.stop import Stop
from cores.plural import counted


def program_name(s: SessionSnapshot) -> str:
    return "standard input" if s.path == "-" else printable(PurePath(s.path).name)


def without_vmm(m: MachineSnapshot) -> float | None:
    """The share of the guest's instructions that were done without the VMM, 0 to 1; None where that
    is not counted, and on an emulator, where it has no meaning."""
    if emulates(m) or not m.instructions:
        return None
    return max(0.0, 1 - (m.exits - m.delivered + m.bridged + m.emulated) / m.instructions)


def equality(scene: Scene) -> Row:
    s, wide = scene.s, scene.width >= 100
    if s.divergence is not None:
        return row(("≠ not equal", "bad"), f" from {s.divergence.instruction + 1:,} on")
    going = [m for m in s.machines if m.stop is not Stop.ERROR]
    if len(going) < 2:
        return row(("one machine: nothing to compare" if wide else "one machine", "dim"))
    if s.mode == "free":
        return row(("not compared", "dim"))
    count = (" in all " if wide else " ") + counted(s.compared, "step")
    if left := [title(m.core) for m in s.machines if m.stop is Stop.ERROR]:
        count += f", without {', '.join(left)}" if wide else f", not {', '.join(left)}"
    return row(("= ", "cpu-bold"), ("equal", "strong"), (count, "dim"))


def confinement(scene: Scene) -> Row:
    s, wide = scene.s, scene.width >= 110
    if s.escaped:
        return row((f"! NOT confined: {s.escaped[0]}" if wide else "! NOT confined", "bad"))
    held = [m for m in s.machines if not emulates(m) and m.stop is not Stop.ERROR]
    if not held:
        return EMPTY  # an emulator's guest is data: there is nothing to hold
    words = (
        "" if s.audits is None else ", checked once" if s.audits < 2 else f", checked {s.audits} times"
    )
    return row(("✓ ", "cpu-bold"), ("confined", "strong"), (words if wide else "", "dim"))


def efficiency(scene: Scene) -> Row:
    """The trap core's share, without one KVM's."""
    s, wide = scene.s, scene.width >= 100
    able = [m for m in s.machines if m.stop is not Stop.ERROR]
    for family in ("trap", "kvm"):
        for m in able:
            share = without_vmm(m) if kind(m.core) == family else None
            if share is not None:
                words = " ran without the VMM" if wide else " without VMM"
                return row((percent(share), "strong"), (words, "dim"))
    if all(emulates(m) for m in s.machines):
        return EMPTY
    return row(("not counted", "dim")) if scene.free else EMPTY


def header_row(scene: Scene) -> Row:
    """``activity`` at the right end; the properties in the middle, as many as there is room for."""
    width = scene.width
    state = (f" {scene.activity} ", "running" if scene.s.running else "strong")
    parts = [part for part in (equality(scene), confinement(scene), efficiency(scene)) if part]
    left: Row = row(" ", ("Ringscope  " if width >= 100 else "", "dim"))
    name = program_name(scene.s)
    room = max(8, width // 4)
    left = (*left, (name if width_of(name) <= room else name[: room - 1] + "…", "strong"))
    gap = " " * (4 if width >= 110 else 3)
    while (
        parts and row_width(left) + sum(map(row_width, parts)) + 3 * len(parts) + len(state[0]) > width
    ):
        parts.pop()  # rather none than half of one
    middle: Row = EMPTY
    for part in parts:
        middle += ((gap, "text"), *part) if middle else part
    at = max(row_width(left) + 3, (width - row_width(middle)) // 2 if width >= 100 else 0)
    at = max(row_width(left) + 3, min(at, width - row_width(middle) - len(state[0])))
    return spread((*fit_row(left, at), *middle), (state,), width)
