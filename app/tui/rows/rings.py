"""The rings view: the privilege of each part, as the guest believes and as it is.

    the guest believes    ring 0   its kernel          ring 3   its programs
    in truth              ring 0   the host's kernel   ring 3   the VMM, and on a trap core the guest

Hardware support adds a second set of rings, guest mode, with a ring 0 for the guest. Where KVM has no
such support the host's kernel interprets the guest's ring 0, and there is no guest mode to show.
"""

from __future__ import annotations

from app.tui.rows.machine_parts import title
from app.tui.rows.rows import EMPTY, Row, fit, row
from cores.engines.base import RingZero
from cores.machine.report import MachineSnapshot

LABEL = 22
COLUMN = 30
"""Cells for a machine at least."""


def ring_rows(
    machines: tuple[MachineSnapshot, ...], core: str, symbols: dict[str, int], width: int
) -> list[Row]:
    """A column for each machine; where they do not fit, one for ``core`` alone."""
    shown = machines
    if width < LABEL + len(machines) * COLUMN:
        shown = tuple(m for m in machines if m.core == core)
    room = (width - LABEL) // max(1, len(shown))

    def line(label: str, cells: list[tuple[str, bool]], head: bool = False) -> Row:
        parts: list[tuple[str, str]] = [(fit(label, LABEL), "dim")]
        for words, here in cells:
            mark = "▸ " if here else "  "
            role = "strong" if here or head else "text"
            parts += [(mark, "host-bold"), (fit(words, room - 2, "…"), role)]
        return tuple(parts)

    rows = [
        line("", [(f"{title(m.core)}  {m.core}", False) for m in shown], head=True),
        line("now at", [(place(m, symbols), False) for m in shown]),
        EMPTY,
        row(("What the guest believes", "strong")),
        line("  ring 3, user", [("its programs", _runs(m) and m.ring == 3) for m in shown]),
        line("  ring 0, supervisor", [("its kernel", _runs(m) and m.ring == 0) for m in shown]),
        EMPTY,
        row(("Where it really runs", "strong")),
    ]
    rows.append(line("  host, ring 3", [_user_part(m) for m in shown]))
    rows.append(line("", [_vmm_part(m) for m in shown]))
    rows.append(line("  host, ring 0", [_kernel_part(m) for m in shown]))
    if any(m.ring_zero is RingZero.GUEST_MODE for m in shown):
        rows.append(
            line("  guest mode, ring 3", [_in_guest_mode(m, 3, "the guest's programs") for m in shown])
        )
        rows.append(
            line("  guest mode, ring 0", [_in_guest_mode(m, 0, "the guest's kernel") for m in shown])
        )
    return rows


def _runs(m: MachineSnapshot) -> bool:
    return m.stop is None


def place(m: MachineSnapshot, symbols: dict[str, int]) -> str:
    """The address, by the nearest symbol before it."""
    rip = m.registers.get("rip", 0)
    if not _runs(m):
        return "ended"
    near = max(((at, name) for name, at in symbols.items() if at <= rip < at + 4096), default=None)
    if near is None:
        return f"{rip:x}"
    offset = rip - near[0]
    return f"{rip:x}  {near[1]}" + (f"+{offset:x}" if offset else "")


def _user_part(m: MachineSnapshot) -> tuple[str, bool]:
    match m.ring_zero:
        case RingZero.DEPRIVILEGED if m.real_ring is None:
            return "an emulator stands in for ring 3", _runs(m)
        case RingZero.DEPRIVILEGED:
            return "the guest, kernel and all", _runs(m)
        case RingZero.SIMULATED:
            return "the guest, as mere data", _runs(m)
        case RingZero.INTERPRETED:
            return "the guest's programs", _runs(m) and m.ring == 3
        case RingZero.GUEST_MODE | RingZero.UNKNOWN:
            return "(not the guest)" if m.ring_zero is RingZero.GUEST_MODE else "(not known)", False


def _vmm_part(m: MachineSnapshot) -> tuple[str, bool]:
    return ("the emulator" if m.ring_zero is RingZero.SIMULATED else "the VMM (this program)"), False


def _kernel_part(m: MachineSnapshot) -> tuple[str, bool]:
    match m.ring_zero:
        case RingZero.SIMULATED:
            return "the host's kernel", False
        case RingZero.DEPRIVILEGED:
            return "the host's kernel, by a trap", False
        case RingZero.GUEST_MODE:
            return "the host's kernel with KVM", False
        case RingZero.INTERPRETED:
            return "KVM, interpreting ring 0", _runs(m) and m.ring == 0
        case RingZero.UNKNOWN:
            return "KVM, with the guest", _runs(m)


def _in_guest_mode(m: MachineSnapshot, ring: int, words: str) -> tuple[str, bool]:
    if m.ring_zero is not RingZero.GUEST_MODE:
        return "-", False
    return words, _runs(m) and (m.ring == 3) == (ring == 3)
