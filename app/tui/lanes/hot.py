"""Where a guest was left most: lines and functions of its program, by their exits."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from app.tui.lanes.facts import short, time_away
from app.tui.lanes.source import brief
from app.tui.rows import places
from app.tui.rows.rows import fit, printable
from cores.machine.report import MachineSnapshot, SessionSnapshot

MOST = 40
"""Lines that are listed; functions are a third of that."""


@dataclass(frozen=True, slots=True)
class Spot:
    """address: the one with the most exits of those that are counted together."""

    address: int
    exits: int
    ns: int


def spots(m: MachineSnapshot, key: Callable[[int], Hashable]) -> list[Spot]:
    """The exits of a machine, counted together where ``key`` of their addresses is the same; the most
    first."""
    found: dict[Hashable, list[tuple[int, int, int]]] = {}
    for address, site in m.sites.items():
        if exits := site.own + site.outside:
            found.setdefault(key(address), []).append((exits, site.ns, address))
    made = [
        Spot(max(group)[2], sum(n for n, _, _ in group), sum(ns for _, ns, _ in group))
        for group in found.values()
    ]
    return sorted(made, key=lambda spot: (-spot.exits, spot.address))


def choices(s: SessionSnapshot, m: MachineSnapshot, width: int) -> dict[str, int]:
    """A row for each line, then one for each function, to choose from; with its address."""

    def line(address: int) -> Hashable:
        return places.line_of(s, address) if s.files and places.line(s, address) else (address,)

    def function(address: int) -> str:
        return places.function(s, address).partition("+")[0]

    rows = {
        _row(spot, places.function(s, spot.address), _text(s, m, spot.address), width): spot.address
        for spot in spots(m, line)[:MOST]
    }
    for spot in spots(m, function)[: MOST // 3] if s.symbols else ():
        if name := function(spot.address):
            rows[_row(spot, name, "all of it", width)] = spot.address
    return rows


def _row(spot: Spot, where: str, text: str, width: int) -> str:
    head = f"{short(spot.exits):>6} × {time_away(spot.ns):>8}  "
    where = where or f"{spot.address:x}"
    return fit(f"{head}{printable(fit(where, 18, '…'))}  {text}", width, "…").rstrip()


def _text(s: SessionSnapshot, m: MachineSnapshot, address: int) -> str:
    """The line at an address: the source, else the instruction of the latest exit there."""
    number = places.line_of(s, address)
    if number and number <= len(s.source):
        where = places.line(s, address)
        text = s.source[number - 1].strip()
        return printable(f"{where}  {text}" if where else text)
    known = s.listing.get(address) or next((x for x in m.code if x.address == address), None)
    return printable(brief(known.text)) if known is not None else f"at {address:x}"
