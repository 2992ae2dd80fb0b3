"""Who had the CPU: one cell for each instruction, the newest at the right; three where the guest was
left, for the way through the host's kernel to Ringscope and back."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from app.tui.lanes.layout import lanes
from app.tui.lanes.scene import Scene, by_software, emulates
from app.tui.rows.rows import EMPTY, Row, row
from cores.engines.base import RingZero
from cores.machine.report import MachineSnapshot
from cores.vmm.trace import UNCOUNTED
from cores.x86.isa.instruction import Reason

_ACTORS = ("the guest's code", "the host's kernel", "Ringscope (emulator, VMM)")
_SHORT = ("CPU is with the guest's code", "       with the host's kernel", "       with Ringscope")
_TINY = ("guest's code", "host's kernel", "Ringscope")
_LEFT = ("┐ ┌", "│ │", "└─┘")
"""Down from the guest's code to Ringscope, and up again."""
GUEST, KERNEL, RINGSCOPE = range(3)
_SIGNS = {GUEST: ("─", "cpu"), KERNEL: ("┄", "soft"), RINGSCOPE: ("┄", "soft")}
_BETWEEN = frozenset({Reason.EXCEPTION, Reason.IRQ})
"""Deliveries: they complete no instruction, and the next one is the first of the handler."""
LevelAt = Callable[[int], int | None]
"""Number of an instruction -> the row of its line, None where that is not known."""


def level(m: MachineSnapshot) -> int:
    """Who executes the guest's instructions: the row of the track in which its line lies."""
    soft = by_software(m)
    if emulates(m) or (soft and m.real_ring is None and "kvm" not in m.core):
        return RINGSCOPE
    return KERNEL if soft else GUEST


def track(m: MachineSnapshot, level_at: LevelAt, cells: int) -> tuple[Row, Row, Row]:
    """Three rows of at most ``cells`` cells."""
    now = m.instructions or 0
    left_at = {e.n for e in m.events if e.reason not in UNCOUNTED}
    steps: list[tuple[int, int | None]] = []  # the newest first: instructions alike, 0 for an exit
    used, n = 0, now - 1
    while n >= 0 and used + (3 if n in left_at else 1) <= cells:
        base = level_at(n)
        if n in left_at:
            steps.append((0, base))
        elif steps and steps[-1][0] and steps[-1][1] == base:
            steps[-1] = (steps[-1][0] + 1, base)
        else:
            steps.append((1, base))
        used += 3 if n in left_at else 1
        n -= 1
    rows: list[list[tuple[str, str]]] = [[], [], []]
    for count, base in reversed(steps):
        sign, role = ("·", "dim") if base is None else _SIGNS[base]
        for y, parts in enumerate(rows):
            if count:
                parts.append(((sign if y == (base or GUEST) else " ") * count, role))
            else:
                parts.append(_exit(y, base or GUEST))
    top, middle, bottom = (tuple(parts) for parts in rows)
    return top, middle, bottom


def _exit(y: int, base: int) -> tuple[str, str]:
    if y < base:
        return ("   ", "text")
    if y == base:
        return (_LEFT[GUEST] if base != RINGSCOPE else "┄⇄┄", "host")
    return (_LEFT[y], "host")


def levels(scene: Scene, m: MachineSnapshot) -> LevelAt:
    """The row for each past instruction. Where the host's kernel interprets ring 0, the instruction's
    ring decides; None where that is not known, or it is not known what KVM does."""
    if m.ring_zero is RingZero.UNKNOWN:
        return lambda n: None
    if m.ring_zero is not RingZero.INTERPRETED:
        base = level(m)
        return lambda n: base
    ring_at = _rings(scene, m)

    def level_at(n: int) -> int | None:
        ring = ring_at(n)
        return None if ring is None else GUEST if ring == 3 else KERNEL

    return level_at


def _rings(scene: Scene, m: MachineSnapshot) -> Callable[[int], int | None]:
    """The guest's ring at each past instruction. On a trap core no ring changes without an exit, so
    that its log tells, for all machines that have done the same; else a machine's own exits tell
    their own."""
    trap = next(
        (
            x
            for x in scene.s.machines
            if x.ring_zero is RingZero.DEPRIVILEGED and x.instructions == m.instructions
        ),
        None,
    )
    if trap is None or scene.parted:
        return {e.n: e.ring for e in m.events if e.reason not in _BETWEEN}.get
    logged = [(e.n, e.reason, e.ring) for e in trap.events if e.reason not in UNCOUNTED]
    known = [(2 * n + (reason not in _BETWEEN), ring) for n, reason, ring in logged if n is not None]
    keys = [key for key, _ in known]
    whole = len(trap.events) >= sum(trap.exits_by_reason.values())

    def ring_at(n: int) -> int | None:
        at = bisect_left(keys, 2 * n + 1)
        if at == 0 and not whole and keys[:1] != [2 * n + 1]:
            return None  # before the oldest exit at hand
        return known[at][1] if at < len(known) else trap.ring

    return ring_at


def track_rows(scene: Scene) -> list[Row]:
    cells = [
        track(m, levels(scene, m), scene.lane - 2) if (m := lane.machine) is not None else (EMPTY,) * 3
        for lane in scene.lanes
    ]
    return [lanes(scene, _label(scene.left, y), [columns[y] for columns in cells]) for y in range(3)]


def _label(width: int, y: int) -> Row:
    if width >= 54:
        head = "Who had the CPU, " if y == 0 else " " * 17
        return row(" ", (head, "dim"), _ACTORS[y])
    return row(" ", ((_SHORT if width >= 30 else _TINY)[y], "dim"))
