"""The top row: what runs, in which mode, the three properties, and what goes on now."""

from __future__ import annotations

from pathlib import PurePath

from app.tui.rows.glyphs import Glyphs
from app.tui.rows.machine_parts import kind, rate_words
from app.tui.rows.rows import EMPTY, Row, printable, row, row_width, spread
from cores.engines.base import RingZero
from cores.machine.report import MachineSnapshot, SessionSnapshot, direct_share, percent
from cores.pc.stop import Stop

from .line_view import LineView

MODES = {
    "exact": "The program, and how it runs: exact, all machines together, one instruction at a time,"
    " or at full speed to where they meet again, and compared there.",
    "free": "The program, and how it runs: free, each machine at full speed by itself.",
}
EQUIVALENCE = (
    "Equivalence, the first of Popek and Goldberg's properties: the machines are compared in registers,"
    " written memory and output, after every step, and after every stretch at full speed. Steps are how"
    " far they have been found equal."
)
CONTROL = (
    "Resource control, the second: nothing the guest does reaches the host. An audit asks the host's"
    " kernel what the guest's processes have: nothing but guest RAM, no open file, no way to a system"
    " call. A guest in KVM is held by the host's kernel, by means of the CPU's guest mode where there"
    " is hardware support; an emulator's is only data."
)
EFFICIENCY = (
    "Efficiency, the third: the share of the instructions that ran directly on the CPU, without the"
    " VMM, on the trap core; without one, on KVM. It is not counted while the CPU runs on its own, nor"
    " on a KVM whose kernel interprets ring 0."
)
ACTIVITY = "What goes on now. space runs and pauses, + and - change the speed."


def efficiency(machines: tuple[MachineSnapshot, ...]) -> float | None:
    """``direct_share`` of the trap core, else of KVM."""
    for family in ("trap", "kvm"):
        for m in machines:
            if kind(m.core) == family and (share := direct_share(m)) is not None:
                return share
    return None


def equivalence_row(s: SessionSnapshot, wide: bool, glyphs: Glyphs) -> Row:
    if s.divergence is not None:
        at = f"{s.divergence.instruction:,}"
        return row(
            ("equivalence " if wide else "", "dim"),
            (f"{glyphs.unequal} " + (f"broken after {at}" if wide else f"after {at}"), "bad"),
        )
    if s.mode == "free":
        before = f"{s.compared:,} steps, then " if s.compared else ""
        return row(("equivalence " if wide else "", "dim"), (f"{before}not compared", "dim"))
    left = [m.core for m in s.machines if m.stop is Stop.ERROR]
    if len(s.machines) - len(left) < 2:
        return row(("one machine" + (", nothing to compare" if wide else ""), "dim"))
    without = (", without " if wide else ", not ") + ", ".join(left) if left else ""
    return row(
        ("equivalence " if wide else "", "dim"),
        (f"{glyphs.equal} ", "good"),
        (f"{s.compared:,}", "strong"),
        (" steps" + without, "dim"),
    )


def control_row(s: SessionSnapshot, wide: bool) -> Row:
    if s.escaped:
        return row(("control ", "dim"), (f"LOST: {s.escaped[0]}" if wide else "LOST", "bad"))
    held = [m for m in s.machines if m.real_ring is not None or kind(m.core) == "kvm"]
    if not held:  # an emulator's guest is data: there is nothing to hold
        return row(("control ", "dim"), ("-", "dim"))
    if any(m.stop is Stop.ERROR for m in held):
        return row(("control ", "dim"), ("ended by the host" if wide else "ended", "bad"))
    if s.audits is None:
        by_cpu = all(m.ring_zero is RingZero.GUEST_MODE for m in held)
        keeper = "CPU's" if by_cpu else "kernel's"
        return row(("control ", "dim"), (f"the {keeper}" if wide else keeper, "dim"))
    audits = f" in {s.audits:,} audit{'s' * (s.audits != 1)}" if wide else ""
    return row(("control ", "dim"), ("held", "strong"), (audits, "dim"))


def efficiency_row(s: SessionSnapshot, wide: bool) -> Row:
    share = efficiency(s.machines)
    if share is None:
        free = any(m.instructions is None for m in s.machines)
        return row(
            ("efficiency " if wide else "direct ", "dim"), ("not counted" if free else "-", "dim")
        )
    return row(
        ("efficiency " if wide else "", "dim"),
        (percent(share), "strong"),
        (" ran directly" if wide else " direct", "dim"),
    )


class Properties(LineView):
    """One row, always there."""

    DEFAULT_CSS = "Properties { width: 1fr; height: 1; }"

    def __init__(self) -> None:
        super().__init__(id="properties")
        self.snapshot: SessionSnapshot | None = None
        self.rates: dict[str, float] = {}
        self.activity = ""
        self._spots: list[tuple[int, str]] = []

    def tip(self, x: int, y: int) -> str:
        return next((words for end, words in self._spots if x < end), ACTIVITY)

    def show(self, snapshot: SessionSnapshot | None, rates: dict[str, float], activity: str) -> None:
        """activity: what goes on, in a word ("paused", "running")."""
        self.snapshot, self.rates, self.activity = snapshot, rates, activity
        self.redraw()

    def compose_rows(self, width: int, height: int) -> list[Row]:
        wide = width >= 132
        s = self.snapshot
        rate = max(self.rates.values(), default=0.0)
        stepped = " in steps" if s is not None and s.mode == "exact" else ""
        speed = f"{rate_words(rate)}{stepped}  " if rate and wide else ""
        right = row((speed, "dim"), (f"{self.activity} ", "strong"))
        if s is None:
            return [spread(row((" Ringscope", "strong")), right, width)]
        name = printable(PurePath(s.path).name) if s.path != "-" else "standard input"
        left = row(
            (" Ringscope  " if width >= 100 else " ", "strong"),
            (name, "strong"),
            (f"  {s.mode}", "dim"),
        )
        parts = [equivalence_row(s, wide, self.glyphs), control_row(s, wide), efficiency_row(s, wide)]
        while parts and sum(map(row_width, (left, *parts, right))) + 2 * len(parts) + 1 > width:
            parts.pop()  # rather none than half of one
        room = width - row_width(left) - row_width(right) - sum(map(row_width, parts))
        gap = " " * max(2, min(5, room // 4))
        middle: Row = EMPTY
        self._spots = [(row_width(left), MODES.get(s.mode, ""))]
        for part, words in zip(parts, (EQUIVALENCE, CONTROL, EFFICIENCY), strict=False):
            middle += ((gap, "text"), *part)
            self._spots.append((row_width(left) + row_width(middle), words))
        return [spread((*left, *middle), right, width)]
