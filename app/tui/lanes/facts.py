"""The facts, a row each, a machine a column: who executes, where the registers live, the ring, exits.

Each has two or three wordings, of which the longest that fits whole is taken; all must be true of the
host at hand (``RingZero``).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from typing import NamedTuple

from app.tui.lanes.header import without_vmm
from app.tui.lanes.layout import first_fit, lanes
from app.tui.lanes.scene import Lane, Scene, by_software, emulates, foreign, kind
from app.tui.rows.registers import register_file
from app.tui.rows.rows import Row, printable, row, width_of
from cores.engines.base import RingZero
from cores.machine.report import MachineSnapshot, percent

_PROCESS = re.compile(r"process (\d+), CPU (\d+)")
_NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}


def time_away(ns: int) -> str:
    """A time in at most seven cells, never cut: "24.8 µs", "857 µs", "1.6 ms", "568 ms", "12.0 s"."""
    us = ns / 1000
    for below, unit, text in (
        (99.95, 1, "{:.1f} µs"), (999.5, 1, "{:.0f} µs"), (9_950, 1e3, "{:.1f} ms"),
        (999_500, 1e3, "{:.0f} ms"), (99.95e6, 1e6, "{:.1f} s"),
    ):  # fmt: skip
        if us < below:
            return text.format(us / unit)
    return f"{us / 1e6:,.0f} s"


def brief(count: int) -> str:
    """A count in at most four cells: 180, 1.3k, 17k, 2M."""
    if count < 1_000:
        return f"{count}"
    if count < 9_950:
        return f"{count / 1_000:.1f}k"
    return f"{count // 1_000}k" if count < 1_000_000 else f"{count // 1_000_000}M"


def short(count: int) -> str:
    """A count in at most five cells: 9,999, 17k."""
    return f"{count:,}" if count < 10_000 else brief(count)


# Who executes, where the registers live, the ring


class Cell(NamedTuple):
    """wordings: from long to short. role: of who works there. head: a strong word before them."""

    wordings: tuple[str, ...]
    role: str
    head: str = ""


def names(lane: Lane, width: int, twins: bool = False) -> str:
    """The title of a lane. twins: there is another of its kind."""
    which = lane.core.partition(":")[2]
    match kind(lane.core):
        case "interpreter":
            return first_fit(width, "EMULATOR", "EMU")
        case "trap" if twins and which:
            return first_fit(width, f"TRAP AND EMULATE {which}", f"TRAP {which}", which.upper())
        case "trap":
            return first_fit(width, "TRAP AND EMULATE", "TRAP+EMULATE", "TRAP")
        case _:
            return "KVM"


def who(m: MachineSnapshot) -> Cell:
    if emulates(m):
        return Cell((f"software ({m.engine.split()[0]})", "software"), "soft-bold")
    match m.ring_zero:
        case RingZero.GUEST_MODE:
            return Cell(("this CPU, in guest mode", "CPU, guest mode", "guest mode"), "cpu-bold")
        case RingZero.INTERPRETED if m.ring == 3:
            words = (
                "this CPU, in its ring 3",
                "this CPU, its ring 3",
                "CPU, its ring 3",
                "CPU, ring 3",
            )
            return Cell(words, "cpu-bold")
        case RingZero.INTERPRETED:
            return Cell(("software inside KVM", "KVM's software", "KVM software"), "soft-bold")
        case RingZero.UNKNOWN:
            return Cell(("inside KVM, it does not say how", "inside KVM"), "strong")
        case _ if by_software(m):
            stands_in = ("software standing in for ring 3", "software as ring 3", "software")
            return Cell(stands_in, "soft-bold")
    words = ("this CPU, held in ring 3", "this CPU, in ring 3", "CPU, in ring 3", "CPU, ring 3")
    return Cell(words, "cpu-bold")


def general(m: MachineSnapshot) -> Cell:
    if kind(m.core) == "kvm":
        return _in_kvm(m, ("this CPU, saved by it at exits", "this CPU's registers", "in this CPU"))
    if by_software(m):
        at = m.where.removeprefix("host memory at ")
        return Cell((f"host memory, {at}", "in host memory", "host memory"), "soft")
    found = _PROCESS.search(m.where)
    if found is None:
        return Cell(("in this CPU", "in the CPU"), "cpu")
    pid, cpu = found.groups()
    return Cell((f"CPU {cpu}, by process {pid}", f"CPU {cpu}, pid {pid}", f"in CPU {cpu}"), "cpu")


def privileged(m: MachineSnapshot) -> Cell:
    if kind(m.core) == "kvm":
        return _in_kvm(m, ("this CPU's guest state", "CPU guest state", "guest state"))
    if emulates(m):
        return Cell(("host memory",), "soft")
    return Cell(("the VMM's own memory", "VMM's memory"), "host")


def _in_kvm(m: MachineSnapshot, in_guest_mode: tuple[str, ...]) -> Cell:
    if m.ring_zero is RingZero.GUEST_MODE:
        return Cell(in_guest_mode, "cpu")
    soft = by_software(m)
    role = "text" if soft is None else "soft" if soft else "cpu"
    return Cell(("vCPU 0 of /dev/kvm", "KVM's vCPU 0", "KVM's vCPU"), role)


def ring(m: MachineSnapshot) -> Cell:
    modes = register_file(m).modes
    if modes is not None:
        return Cell((", just a number", ", a number", ", data"), "soft", modes[m.ring > 0])
    believed = f"{m.ring}"
    if emulates(m):
        return Cell((", just a number", ", a number"), "soft", believed)
    match m.ring_zero:
        case RingZero.GUEST_MODE:
            return Cell((", real, in guest mode", ", guest mode"), "cpu", believed)
        case RingZero.INTERPRETED if m.ring == 3:
            return Cell((", really 3",), "cpu", believed)
        case RingZero.INTERPRETED:
            return Cell((", played by software", ", by software", ", software"), "soft", believed)
        case RingZero.UNKNOWN:
            return Cell((", inside KVM", ", in KVM"), "text", believed)
        case _ if by_software(m):
            return Cell((", a number, played as 3", ", played as 3", ", as 3"), "soft", believed)
    return Cell((", really 3",), "host", believed)


def left(scene: Scene, m: MachineSnapshot, width: int) -> Row:
    """How often the guest was left, and for how long altogether."""
    if not scene.met and len(scene.s.machines) > 1:
        return row(("none yet", "dim"))
    if emulates(m):
        return row(("never", "soft-bold"))
    if not m.exits:
        return row(("none yet", "dim"))
    away = time_away(sum(m.ns_by_reason.values()))
    count = f"{m.exits:,} ×"
    if len(count) + len(away) + 2 > width:
        count = f"{brief(m.exits)} ×"
    gap = "  " if len(count) + len(away) + 2 <= width else " "
    return row((count, "host-bold"), gap, (away, "host"))


# The rows


def _cell(cell: Cell, width: int) -> Row:
    words = first_fit(width - width_of(cell.head), *cell.wordings)
    return ((cell.head, "strong"), (words, cell.role)) if cell.head else ((words, cell.role),)


def label(scene: Scene, *wordings: str) -> Row:
    role = "text" if scene.projector else "dim"
    return row(" ", (first_fit(scene.left - 1, *wordings), role))


def twins(scene: Scene, lane: Lane) -> bool:
    """Is there another lane of this one's kind?"""
    return sum(kind(other.core) == kind(lane.core) for other in scene.lanes) > 1


def names_row(scene: Scene, *wordings: str) -> Row:
    """The titles of the lanes, with the keys that hide them."""
    count = _NUMBERS.get(len(scene.lanes), str(len(scene.lanes)))
    plural = "machine" if len(scene.lanes) == 1 else "machines"
    left = wordings or (f"One program, {count} {plural}", f"{count} {plural}")
    marked = len(scene.lanes) > 1 and scene.view in ("conversation", "log")
    cells = [
        row(
            (f"{lane.number} ", "dim"),
            (
                names(lane, scene.lane - 3, twins(scene, lane)),
                "strong" if lane.machine is not None else "dim",
            ),
            (" ▾" if marked and lane.core == scene.chosen and scene.lane > 18 else "", "dim"),
        )
        for lane in scene.lanes
    ]
    return lanes(scene, label(scene, *left), cells)


Fact = Callable[[MachineSnapshot], Cell]


def fact_rows(scene: Scene) -> dict[str, Row]:
    """The rows by name: "names", "who", "general", "privileged", "ring", "left", "bar", "rates"."""
    width = scene.lane - 1
    some = scene.machines[0] if scene.machines else scene.reference
    general_names = register_file(some).span
    system_names = "sr, usp, ssp" if foreign(some) else "cr0, cr3, IF"
    facts: tuple[tuple[str, tuple[str, ...], Fact], ...] = (
        ("who", ("Who executes the guest's code", "Who executes it"), who),
        ("general", (f"Where {general_names} live", f"{general_names} in"), general),
        ("privileged", (f"Where {system_names} live", f"{system_names} in"), privileged),
        ("ring", ("Its ring: as it believes, really", "Ring: believed, real", "Ring, really"), ring),
    )
    rows = {"names": names_row(scene)}
    for name, wordings, fact in facts:
        cells = [
            _cell(fact(lane.machine), width) if lane.machine is not None else () for lane in scene.lanes
        ]
        rows[name] = lanes(scene, label(scene, *wordings), cells)
    cells = [left(scene, m, width) if (m := lane.machine) is not None else () for lane in scene.lanes]
    rows["left"] = lanes(scene, label(scene, "Left the guest, and time away", "Left, time away"), cells)
    cells = [_bar(m, width) if (m := lane.machine) is not None else () for lane in scene.lanes]
    rows["bar"] = lanes(scene, label(scene, "Instructions done without the VMM", "Without VMM"), cells)
    cells = [_rate(scene, m) if (m := lane.machine) is not None else () for lane in scene.lanes]
    rows["rates"] = lanes(scene, label(scene, "Exits now"), cells)
    return rows


def with_reasons(scene: Scene, rows: list[Row]) -> list[Row]:
    """The facts' rows, names first, where the lane of a machine that does not run here, or that the
    host stopped, has the reason below its name."""
    if not any(lane.why for lane in scene.lanes):
        return rows
    width = scene.lane - 1
    out = rows[:1]
    for y, line in enumerate(rows[1:]):
        at = scene.left
        parts = _cut(line, 0, at)
        for lane in scene.lanes:
            if lane.why:
                role = "dim" if lane.machine is None else "bad"
                text = _reason(lane, width, len(rows) - 1)
                parts += [(" ", "text"), (f"{text[y] if y < len(text) else '':<{width}}", role)]
            else:
                parts += _cut(line, at, at + scene.lane)
            at += scene.lane
        out.append(tuple(parts))
    return out


def _reason(lane: Lane, width: int, rows: int) -> list[str]:
    head = "cannot run here:" if lane.machine is None else "stopped:"
    if rows == 1:
        return [first_fit(width, head[:-1], "not here")]
    lines = textwrap.wrap(f"{first_fit(width, head, 'not here:')} {printable(lane.why)}", width)
    if len(lines) > rows:
        lines[rows - 1] = lines[rows - 1][: width - 1] + "…"
    return lines[:rows]


def _cut(line: Row, start: int, end: int) -> list[tuple[str, str]]:
    """Cells ``start`` to ``end`` of a row; every sign of the screen is one cell wide."""
    out, at = [], 0
    for text, role in line:
        piece = text[max(0, start - at) : max(0, end - at)]
        if piece:
            out.append((piece, role))
        at += width_of(text)
    return out


def _bar(m: MachineSnapshot, width: int) -> Row:
    cells = width - 8
    if emulates(m):
        return row(("░" * cells, "soft"), (" none", "soft"))
    share = without_vmm(m)
    if share is None:
        return row((first_fit(width, "not counted"), "dim"))
    full = cells if share >= 1 else min(cells - 1, int(cells * share + 0.5))
    soft = by_software(m)
    done = ("█" * full, "text" if soft is None else "soft" if soft else "cpu")
    return row(done, ("▒" * (cells - full), "host"), f" {percent(share)}")


def _rate(scene: Scene, m: MachineSnapshot) -> Row:
    if emulates(m) or m.core not in scene.rates:
        return row(("-", "faint"))
    rate = sum(scene.rates[m.core].values())
    return row((f"{rate:,.0f}", "host-bold"), (" a second", "host"))
