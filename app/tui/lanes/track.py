"""Who had the CPU: one cell for each instruction, the newest at the right; three where the guest was
left, for the way through the host's kernel to Ringscope and back."""

from __future__ import annotations

from app.tui.lanes.layout import lanes
from app.tui.lanes.scene import Scene, by_software, emulates
from app.tui.rows.rows import EMPTY, Row, row
from cores.machine.report import MachineSnapshot
from cores.vmm.trace import UNCOUNTED

_ACTORS = ("the guest's code", "the host's kernel", "Ringscope (emulator, VMM)")
_SHORT = ("CPU is with the guest's code", "       with the host's kernel", "       with Ringscope")
_TINY = ("guest's code", "host's kernel", "Ringscope")
_LEFT = ("┐ ┌", "│ │", "└─┘")
"""Down from the guest's code to Ringscope, and up again."""
GUEST, KERNEL, RINGSCOPE = range(3)


def level(m: MachineSnapshot) -> int:
    """Who executes the guest's instructions: the row of the track in which its line lies."""
    soft = by_software(m)
    if emulates(m) or (soft and m.real_ring is None and "kvm" not in m.core):
        return RINGSCOPE
    return KERNEL if soft else GUEST


def track(m: MachineSnapshot, cells: int) -> tuple[Row, Row, Row]:
    """Three rows of at most ``cells`` cells."""
    now = m.instructions or 0
    left_at = {e.n for e in m.events if e.reason not in UNCOUNTED}
    base, soft = level(m), bool(by_software(m))
    sign, role = ("┄", "soft") if soft else ("─", "cpu")
    steps: list[int] = []  # the newest first: instructions without an exit together, 0 for an exit
    used, n = 0, now - 1
    while n >= 0 and used + (3 if n in left_at else 1) <= cells:
        if n in left_at:
            steps.append(0)
        elif steps and steps[-1]:
            steps[-1] += 1
        else:
            steps.append(1)
        used += 3 if n in left_at else 1
        n -= 1
    rows: list[list[tuple[str, str]]] = [[], [], []]
    for count in reversed(steps):
        for y, parts in enumerate(rows):
            if count:
                parts.append(((sign if y == base else " ") * count, role))
            else:
                parts.append(_exit(y, base))
    top, middle, bottom = (tuple(parts) for parts in rows)
    return top, middle, bottom


def _exit(y: int, base: int) -> tuple[str, str]:
    if y < base:
        return ("   ", "text")
    if y == base:
        return (_LEFT[GUEST] if base != RINGSCOPE else "┄⇄┄", "host")
    return (_LEFT[y], "host")


def track_rows(scene: Scene) -> list[Row]:
    cells = [
        track(lane.machine, scene.lane - 2) if lane.machine is not None else (EMPTY,) * 3
        for lane in scene.lanes
    ]
    return [lanes(scene, _label(scene.left, y), [columns[y] for columns in cells]) for y in range(3)]


def _label(width: int, y: int) -> Row:
    if width >= 54:
        head = "Who had the CPU, " if y == 0 else " " * 17
        return row(" ", (head, "dim"), _ACTORS[y])
    return row(" ", ((_SHORT if width >= 30 else _TINY)[y], "dim"))
