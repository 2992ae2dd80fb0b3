"""Exit heat: where a program leaves the guest, by source line, function or address."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from app.text.reports_json import SCHEMA, Value
from app.text.trace_formats import Places
from cores.machine.report import ExitLine
from cores.plural import counted
from cores.programs.program import Program
from cores.vmm.trace import UNCOUNTED

LINE, FUNCTION, ADDRESS = "line", "function", "address"
BY = (LINE, FUNCTION, ADDRESS)
_HIDDEN = frozenset(str(reason) for reason in UNCOUNTED)


@dataclass(slots=True)
class Spot:
    """All exits of one place. place: "hello.s:12", "print", "0x100010". address: the first one seen
    there. asm: its instruction. exits: as counted; hidden: fills and scans, which are none. ns: of
    both, world switches included."""

    place: str
    address: int
    asm: str
    function: str | None
    source: str | None
    exits: int = 0
    hidden: int = 0
    ns: int = 0
    vmm_ns: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class Heat:
    """Counts exits by the instruction that made them, and groups them."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._places = Places(program.symbols)
        self._spots: dict[int, Spot] = {}

    def add(self, exit: ExitLine) -> None:
        """An interrupt belongs to no instruction: it counts where it met the guest."""
        at = exit.rip if exit.linear is None else exit.linear
        spot = self._spots.get(at)
        if spot is None:
            function = self._places.function(at)
            spot = self._spots[at] = Spot(hex(at), at, exit.asm, function, exit.source)
        if exit.reason in _HIDDEN:
            spot.hidden += 1
        else:
            spot.exits += 1
        spot.asm = spot.asm or exit.asm
        spot.ns += exit.ns
        spot.vmm_ns += exit.vmm_ns
        spot.reasons[exit.reason] += 1

    def best(self) -> str:
        """The finest grouping that people would read."""
        if any(spot.source for spot in self._spots.values()):
            return LINE
        return FUNCTION if self._program.symbols else ADDRESS

    def spots(self, by: str) -> list[Spot]:
        """The places, the hottest first: by exits, then by time. What has no line or function keeps its
        address."""
        groups: dict[str, Spot] = {}
        for spot in self._spots.values():
            name = {LINE: spot.source, FUNCTION: spot.function, ADDRESS: None}[by] or spot.place
            group = groups.get(name)
            if group is None:
                group = groups[name] = Spot(name, spot.address, spot.asm, spot.function, spot.source)
            group.exits += spot.exits
            group.hidden += spot.hidden
            group.ns += spot.ns
            group.vmm_ns += spot.vmm_ns
            group.reasons += spot.reasons
        return sorted(groups.values(), key=lambda s: (-s.exits, -s.ns, s.address))

    def text_of(self, spot: Spot) -> str:
        """What stands at a place: the source's line where it is at hand, else the instruction; of a
        whole function nothing."""
        if spot.place == spot.function:
            return ""
        line = self._program.lines.get(spot.address)
        if line is not None and 0 < line <= len(self._program.source):
            return self._program.source[line - 1].strip()
        return spot.asm


def table(heat: Heat, by: str, most: int = 30) -> str:
    """The hottest places, for a terminal."""
    spots = heat.spots(by)
    total = sum(spot.exits for spot in spots)
    ns = sum(spot.ns for spot in spots)
    if not spots:
        return "The guest was never left.\n"
    width = max(len(by), *(len(spot.place) for spot in spots[:most]))
    lines = [f"{'exits':>9} {'':>6} {'time':>10}  {by:<{width}}  what stands there"]
    for spot in spots[:most]:
        share = f"{100 * spot.exits / total:5.1f}%" if total else ""
        what = ", ".join(f"{reason} {n}" for reason, n in spot.reasons.most_common(3))
        text = heat.text_of(spot)
        lines.append(
            f"{spot.exits:>9,} {share:>6} {spot.ns / 1000:>8,.0f}us  {spot.place:<{width}}"
            f"  {text}{' ' if text else ''}({what})"
        )
    if len(spots) > most:
        rest = spots[most:]
        lines.append(f"{sum(s.exits for s in rest):>9,}{'':>19}  in {len(rest)} other places")
    hidden = sum(spot.hidden for spot in spots)
    words = counted(total, "exit") + (f", and {counted(hidden, 'hidden fault')}" if hidden else "")
    lines.append(f"\n{words}; {ns / 1e6:,.2f} ms, both world switches included.")
    return "\n".join(lines) + "\n"


def as_json(heat: Heat, by: str, program: Program, core: str, mode: str) -> dict[str, Value]:
    """``heat --json``."""
    spots = heat.spots(by)
    return {
        "schema": SCHEMA, "program": program.path, "core": core, "mode": mode, "by": by,
        "exits": sum(spot.exits for spot in spots), "hidden": sum(spot.hidden for spot in spots),
        "ns": sum(spot.ns for spot in spots), "rows": [_row(spot) for spot in spots],
    }  # fmt: skip


def _row(spot: Spot) -> dict[str, Value]:
    return {
        "place": spot.place, "address": hex(spot.address), "asm": spot.asm, "function": spot.function,
        "source": spot.source, "exits": spot.exits, "hidden": spot.hidden, "ns": spot.ns,
        "vmm_ns": spot.vmm_ns, "exits_by_reason": dict(sorted(spot.reasons.items())),
    }  # fmt: skip
