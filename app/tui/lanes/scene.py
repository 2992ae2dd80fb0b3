"""What the session screen shows: the snapshot, and what the user has chosen to see of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from app.tui.lanes.sizes import lane_width
from app.tui.rows.machine_parts import KINDS, kind
from app.tui.rows.rows import Row
from cores.engines.base import RingZero
from cores.machine.report import CodeLine, MachineSnapshot, SessionSnapshot
from cores.pc.stop import Stop
from cores.vmm.trace import ExitEvent

__all__ = [
    "VIEWS",
    "Lane",
    "Scene",
    "all_lanes",
    "by_software",
    "emulates",
    "foreign",
    "kind",
    "role_of",
]

VIEWS = ("ways", "conversation", "reasons", "log")
"""What ``w`` turns to."""

_ORDER = tuple(KINDS)


@dataclass(frozen=True, slots=True)
class Lane:
    """One column. number: the key that hides it. machine: None where its core cannot run here.
    why: the reason why it does not run, or does not go on."""

    number: int
    core: str
    machine: MachineSnapshot | None
    why: str = ""


def all_lanes(s: SessionSnapshot) -> tuple[Lane, ...]:
    """The machines, and the cores that cannot run here at the places that they would have. Where only
    one core can run such a program at all, the others have no column."""
    machines = {m.core: m for m in s.machines}
    refused = dict(s.unavailable)
    if len(s.machines) == 1 and len(set(refused.values())) == 1 and len(refused) > 1:
        refused = {}
    cores = [*machines, *refused]
    if len({kind(core) for core in cores}) == len(cores):
        cores.sort(key=lambda core: _ORDER.index(kind(core)))
    return tuple(
        Lane(number, core, machines.get(core), _why(machines.get(core), refused.get(core, "")))
        for number, core in enumerate(cores, 1)
    )


def _why(m: MachineSnapshot | None, refusal: str) -> str:
    return m.reason if m is not None and m.stop is Stop.ERROR else refusal


@dataclass(frozen=True, slots=True)
class Scene:
    """lanes: the columns in sight. view: one of VIEWS. moving: faster than an eye follows, so that no
    line is marked as the next. top: the first row of the program, as it stood before. anchor: the
    address around which the program is shown while ``moving``; code: the disassembly there.
    picked: the address that the user points at; pointed: registers, pointed_at: the place that a
    lesson points at. asked: the address whose row a lesson asks about: no lane answers there.
    quiet: nothing may be foretold, it would answer a lesson's question. chosen: the core whose exits
    are listed. selected: number of the chosen exit, None: the newest. fetched, begin: see
    ``reasons.Log``. own: each machine's own registers. alone: the program alone. inside: rows of the
    inside of a machine; lesson: the lesson's rows: either in place of three ways and registers. rates:
    exits a second by core and reason, while running freely. breakpoints: addresses. message: (role,
    words) above the program, most urgent first. width, height: cells."""

    s: SessionSnapshot
    width: int
    height: int
    lanes: tuple[Lane, ...]
    activity: str = "paused"
    view: str = VIEWS[0]
    moving: bool = False
    top: int | None = None
    anchor: int | None = None
    code: tuple[CodeLine, ...] = ()
    picked: int | None = None
    pointed: frozenset[str] = frozenset()
    pointed_at: int | None = None
    asked: int | None = None
    quiet: bool = False
    chosen: str = ""
    selected: int | None = None
    fetched: tuple[ExitEvent, ...] = ()
    begin: int = 0
    own: bool = False
    first: int = 0
    alone: bool = False
    projector: bool = False
    inside: tuple[Row, ...] = ()
    lesson: tuple[Row, ...] = ()
    rates: dict[str, dict[str, float]] = field(default_factory=dict)
    breakpoints: frozenset[int] = frozenset()
    messages: tuple[tuple[str, str], ...] = ()

    def with_inside(self, rows: tuple[Row, ...]) -> Scene:
        return replace(self, inside=rows)

    def with_lesson(self, rows: tuple[Row, ...]) -> Scene:
        return replace(self, lesson=rows)

    @property
    def machines(self) -> tuple[MachineSnapshot, ...]:
        """Those of the columns in sight."""
        return tuple(lane.machine for lane in self.lanes if lane.machine is not None)

    @property
    def reference(self) -> MachineSnapshot:
        """The first machine of the session, with which the others are compared."""
        return self.s.machines[0]

    @property
    def free(self) -> bool:
        return self.s.mode == "free"

    @property
    def left(self) -> int:
        """Cells left of the lanes."""
        return self.width - len(self.lanes) * self.lane

    @property
    def lane(self) -> int:
        """Cells of a lane, with the blank before it."""
        return lane_width(self.width, max(1, len(self.lanes)), alone=self.alone, own=self.own)

    @property
    def parted(self) -> bool:
        return self.s.divergence is not None

    @property
    def met(self) -> bool:
        """Has any machine left its guest yet?"""
        return any(m.exits for m in self.s.machines)


def emulates(m: MachineSnapshot) -> bool:
    return kind(m.core) == "interpreter"


def foreign(m: MachineSnapshot) -> bool:
    """Is it the Motorola 68000?"""
    return "pc" in m.registers


def by_software(m: MachineSnapshot, address: int | None = None) -> bool | None:
    """Does software execute the guest's code, at an address or where it is now? None: not known."""
    match m.ring_zero:
        case RingZero.SIMULATED:
            return True
        case RingZero.DEPRIVILEGED:
            return m.real_ring is None
        case RingZero.GUEST_MODE:
            return False
        case RingZero.INTERPRETED:
            return m.ring != 3 if address is None else address >> 12 not in m.user_pages
        case RingZero.UNKNOWN:
            return None


def role_of(m: MachineSnapshot, address: int | None = None) -> str:
    """The role of who executes there."""
    soft = by_software(m, address)
    return "text" if soft is None else "soft" if soft else "cpu"
