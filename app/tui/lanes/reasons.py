"""Why the guest was left, by reason and machine; and the latest exits, one in a row."""

from __future__ import annotations

from app.text import narration
from app.tui.lanes.facts import short, time_away
from app.tui.lanes.layout import first_fit, lanes, rule
from app.tui.lanes.log import Events, visible
from app.tui.lanes.scene import Scene, emulates
from app.tui.lanes.source import brief
from app.tui.lanes.ways import name_of
from app.tui.rows import places
from app.tui.rows.rows import Row, fit, printable, raised, row, row_width, spread
from cores.machine.report import MachineSnapshot
from cores.plural import counted
from cores.vmm.trace import UNCOUNTED, ExitEvent
from cores.x86.isa.instruction import Reason

WORDS = {
    Reason.IO: ("in, out: a device's port", "in, out: a device"),
    Reason.MMIO: ("memory that is a device", "a device's memory"),
    Reason.HLT: ("hlt: sleep",),
    Reason.CR: ("mov cr: control registers", "control registers"),
    Reason.MSR: ("rdmsr, wrmsr: model registers", "model registers"),
    Reason.DESCRIPTOR: ("lgdt, sgdt and the like: tables", "lgdt, sgdt: tables"),
    Reason.FLAGS: ("cli, sti, pushf, popf: flags", "cli, sti: flags"),
    Reason.SEGMENT: ("segment registers",),
    Reason.INT: ("int: a software interrupt", "a software interrupt"),
    Reason.IRET: ("iret: back from a handler", "back from a handler"),
    Reason.SYSCALL: ("syscall: into its kernel", "into its kernel"),
    Reason.SYSRET: ("sysret: back from there", "back from its kernel"),
    Reason.CPUID: ("cpuid: which CPU is this", "which CPU is this"),
    Reason.TSC: ("rdtsc: time",),
    Reason.INVLPG: ("invlpg: a page forgotten", "a page forgotten"),
    Reason.STATE: ("other state of the CPU",),
    Reason.EXCEPTION: ("a fault of its own",),
    Reason.IRQ: ("a device interrupts",),
    Reason.HYPERCALL: ("a call of the hypervisor", "a hypervisor call"),
    Reason.SHUTDOWN: ("a triple fault",),
    Reason.SHADOW: ("(a page is mapped: no exit)", "(mapped: no exit)"),
    Reason.SCAN: ("(code is looked through: no exit)", "(code read: no exit)"),
    Reason.CALLOUT: ("(answered in its process: no exit)", "(answered: no exit)"),
}
"""From long to short."""


def reason_rows(scene: Scene, height: int) -> list[Row]:
    """A reason a row, those that took the most time first; while running freely, the present rates."""
    what = "by reason, now a second" if _now(scene) else "by reason, times and time away"
    title = row(("Why the guest was left", "strong"), (f"  {what}", "dim"))
    rows = [rule(scene, title, row(("w", "key"), (" next view", "dim")))]
    machines = [m for m in scene.machines if not emulates(m)]
    found = {name for m in machines for name in m.exits_by_reason}
    names = sorted(found, key=lambda name: (-_weight(scene, machines, name), name))
    if not names:
        words = "No guest has been left yet." if machines else "An emulator's guest is never left."
        rows.append(row((f" {words}", "dim")))
    most = max([m.ns_by_reason.get(name, 0) for m in machines for name in names] + [1])
    if len(names) > height:
        names = names[: height - 1]
    for name in names:
        words = first_fit(scene.left - 13, *WORDS[Reason(name)])
        label = row(" ", f"{name:<11}", (words, "dim"))
        cells = [_cell(scene, lane.machine, name, most) for lane in scene.lanes]
        rows.append(lanes(scene, label, cells))
    if len(names) < len(found):
        rest = counted(len(found) - len(names), "more reason")
        rows.append(row((f" and {rest}", "faint")))
    return rows


def _now(scene: Scene) -> bool:
    """Are there rates? Not once a free run has ended or is paused."""
    return scene.free and scene.s.running


def _weight(scene: Scene, machines: list[MachineSnapshot], name: str) -> float:
    if _now(scene):
        return sum(scene.rates.get(m.core, {}).get(name, 0) for m in machines)
    return sum(m.ns_by_reason.get(name, 0) for m in machines)


def _cell(scene: Scene, m: MachineSnapshot | None, name: str, most: int) -> Row:
    count = 0 if m is None else m.exits_by_reason.get(name, 0)
    if m is None or not count:
        return row(("-", "faint"))
    if _now(scene):
        rate = scene.rates.get(m.core, {}).get(name, 0.0)
        return row((f"{rate:>7,.0f} /s", "host-bold" if rate >= 0.5 else "faint"))
    hidden = Reason(name) in UNCOUNTED
    ns, width = m.ns_by_reason.get(name, 0), scene.lane - 1
    if not ns:  # what is answered without an exit is counted, and not timed
        return row((f"{short(count):>6}", "dim"))
    bar = "▇" * max(1, round((width - 18) * ns / most)) if width >= 24 else ""
    time = f"{time_away(ns):>8}" if width < 17 else f"{time_away(ns):>9}  "
    roles = ("dim", "dim", "faint") if hidden else ("host-bold", "host", "host")
    return row((f"{short(count):>6}", roles[0]), (time, roles[1]), (bar, roles[2]))


def log_rows(scene: Scene, height: int, *, key: str = "w") -> list[Row]:
    """The latest exits of the chosen machine, or those around the one that is selected."""
    lane = next((x for x in scene.lanes if x.core == scene.chosen and x.machine is not None), None)
    words = {"w": " next view", "l": " all of them"}[key]
    name = "" if lane is None else f"  of {name_of(scene, lane)}"
    title = row(("The latest exits", "strong"), (name, "dim"))
    how = row(("↑↓", "key"), (" choose   ", "dim")) if key == "w" else ()
    rows = [rule(scene, title, (*how, *row(("w", "key"), (words if key == "w" else " all", "dim"))))]
    if lane is None or lane.machine is None:
        return rows
    shown = Events(lane.machine, scene.selected, scene.fetched, scene.begin)
    if shown.current is None:
        words = "An emulator's guest never leaves." if emulates(lane.machine) else "None so far."
        return [*rows, row((f" {words}", "dim"))]
    for number, event in visible(shown, height):
        place = places.both(scene.s, event.rip) if scene.width >= 120 else ""
        line = log_row(event, scene.width, place)
        picked = key == "w" and number == shown.current and scene.selected is not None
        rows.append(raised(line) if picked else line)
    return rows


def log_row(event: ExitEvent, width: int, place: str = "") -> Row:
    """Count, address, reason, instruction, what it was about, the place in words; the time away at the
    right end."""
    wide = width >= 100
    count = "-" if event.n is None else f"{event.n:,}"
    address = f"{event.rip:x}"
    asm = printable(brief(narration.instruction_text(event)) or "(from outside)")
    left = row(
        (f" {count:>9}  " if wide else f"{count:>7} ", "dim"),
        (f"{address if len(address) <= 8 else '…' + address[-7:]:>8}  ", "text"),
        (f"{event.reason.value:<11}", "host"),
        (fit(asm, 30 if wide else 22, "…") + "  ", "text"),
    )
    right = row((f" {time_away(event.ns):>8} ", "host"))
    words = printable(f"{event.detail}; {event.handled}" if width >= 130 else event.detail)
    room = width - row_width(left) - row_width(right)
    if place:
        words = f"{words}   {printable(place)}"
    return spread((*left, (fit(words, room, "…"), "dim")), right, width)
