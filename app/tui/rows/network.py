"""A machine's networks as rows: their state, the cards', and the packets with their costs."""

from __future__ import annotations

from app.tui.rows.rows import EMPTY, Row, fit, printable, row
from cores.inspection.network import NetworkView, PacketLine
from cores.inspection.tables_devices import DeviceState
from cores.plural import counted

NONE = "The guest has no network. --net user gives it one, and --net hub a cable to another machine."
_NARROW = 100


def network_rows(view: NetworkView, width: int, *, counts_exits: bool) -> list[Row]:
    """counts_exits: a packet's cost is its exits; else, on the interpreter, its device accesses."""
    rows = [line for state in (*view.networks, *view.cards) for line in _state(state, width)]
    if not view.networks:
        return [*rows, row((NONE, "comment"))]
    if view.other is not None:
        last = view.other.rstrip("\n").rpartition("\n")[2]
        said = fit(printable(last), width - 26, "…") if last else "nothing yet"
        rows.append(row(("The other machine says ", "strong"), said))
    if width >= _NARROW:
        rows.append(EMPTY)
    if not view.packets and not view.earlier:
        return [*rows, row(("No packet has passed.", "dim"))]
    several = len(view.networks) > 1
    what = "exits" if counts_exits else "device accesses"
    since = " since the packet before" if width >= _NARROW else ""
    head = f"{'µs':>11}  {'':{12 if several else 10}}{'':<{_words(width)}} {what}{since}"
    rows.append(row((head, "dim")))
    if view.later:
        later = counted(view.later, "packet")
        rows.append(row((f"{later}, and before them, for which the log had room:", "dim")))
    rows += [_packet(line, width, several, counts_exits) for line in reversed(view.packets)]
    if view.earlier:
        rows.append(row((f"and {view.earlier:,} before them", "dim")))
    return rows


def _words(width: int) -> int:
    """Cells for what a packet is."""
    return max(20, width - 25 - (16 if width < _NARROW else 40))


def _state(state: DeviceState, width: int) -> list[Row]:
    """A device's state in as many rows as its facts take: queue indices and mappings are among them."""
    lines = [""]
    room = width - len(state.name) - 2
    for name, value in state.facts:
        fact = printable(f"{name} {value}")
        if lines[-1] and len(lines[-1]) + 2 + len(fact) > room:
            lines.append("")
            room = width - 3
        lines[-1] += f"; {fact}" if lines[-1] else fact
    head, *others = lines
    return [
        row((f"{state.name} ", "strong"), fit(head, width - len(state.name) - 2, "…")),
        *(row("  ", fit(line, width - 3, "…")) for line in others),
    ]


def _packet(line: PacketLine, width: int, several: bool, counts_exits: bool) -> Row:
    damaged = line.words.startswith("damaged")
    return row(
        (f"{line.at:>11,}  ", "dim"), (f"{line.network} " if several else "", "dim"),
        ("sent " if line.sent else "came ", "changed" if line.sent else "read"),
        (f"{line.size:>4} ", "dim"),
        (fit(printable(line.words), _words(width), "…") + " ", "bad" if damaged else "text"),
        (_cost(line, width, counts_exits), "strong"),
    )  # fmt: skip


def _cost(line: PacketLine, width: int, counts_exits: bool) -> str:
    if not counts_exits:
        return f"{line.accesses:,}"
    if line.exits is None:
        return "not known"
    total = sum(count for _, count in line.exits)
    if not total:
        return "0"
    parts = ", ".join(f"{count:,} {reason}" for reason, count in line.exits)
    return f"{total:,}: {parts}" if width >= _NARROW else f"{total:,}"
