"""What GDB asks of a session: threads, registers, memory, breakpoints, and motion in both directions.

Each core is a thread of GDB's. All of them stand at the same instruction, so they start and stop
together; what is written is written on all, or they would diverge (``monitor alone on``: to one).

Everything here is called by the thread that owns the session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from app.gdb.registers import Layout, layout_of
from app.text.reports import difference_table
from cores.debugging.breakpoints import AtAddress, Breakpoint, OnDivergence, OnExit
from cores.debugging.edits import MemoryPoke, Poke
from cores.debugging.live_session import LiveSession
from cores.errors import InputError
from cores.inspection.views import peek
from cores.machine.machine import Machine
from cores.plural import counted
from cores.x86.faults import GuestFault
from cores.x86.isa.accesses import next_accesses
from cores.x86.mmu.segmentation import code_address

SLICE = 0.05
"""Seconds for which a motion goes on between two looks at the socket."""

TRAP, INTERRUPT = 5, 2
"""Signals as GDB numbers them: SIGTRAP, SIGINT."""

NEVER, BACKWARDS, ALWAYS = "off", "backwards", "on"
"""When motion stops at exits (``monitor stop-at-exits``)."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a motion has ended. reason: what a stop reply may say of it, as "swbreak:;". words: for the
    user's console, "" for none. over: the exit status when the guest is let go."""

    reason: str = ""
    words: str = ""
    signal: int = TRAP
    over: int | None = None


Motion = Callable[[], Stopped | None]
"""Goes on for one slice; gives why it has ended, None while it has not."""


@dataclass(slots=True)
class Watchpoint:
    """kind: 2 a write, 3 a read, 4 either (GDB's numbers). address: a linear one."""

    kind: int
    address: int
    length: int
    old: tuple[int | None, ...] = ()


@dataclass(slots=True)
class Passed:
    """Where the past stood at some addresses: found by executing it again, a checkpoint's distance at a
    time, and kept while motion goes backwards, since GDB may ask for one after the other."""

    addresses: frozenset[int] = frozenset()
    found: list[int] = field(default_factory=list)
    begin: int = -1

    def newest(self, session: LiveSession, before: int) -> int | None:
        """The newest pass before instruction ``before``; None: there is none from ``begin`` on."""
        if self.begin < 0:
            self.begin = before
        while self.found and self.found[-1] >= before:
            self.found.pop()
        if not self.found:
            self.found, self.begin = session.passes(self.addresses, min(before, self.begin))
        return self.found[-1] if self.found else None


@dataclass(slots=True)
class Target:
    """A session, as GDB sees it. thread: the one whose registers are read, from 1. moved: the one that
    is said to have stopped: GDB's last step was its. breakpoints: linear addresses; hardware: of those
    that GDB calls so. alone: writes reach ``thread`` only."""

    session: LiveSession
    thread: int = 1
    moved: int = 1
    stop_at_exits: str = BACKWARDS
    alone: bool = False
    breakpoints: set[int] = field(default_factory=set)
    hardware: set[int] = field(default_factory=set)
    watchpoints: list[Watchpoint] = field(default_factory=list)
    _passed: Passed = field(default_factory=Passed)
    _told_end: bool = False
    _told_divergence: bool = False

    # State

    @property
    def machine(self) -> Machine:
        return self.session.machines[self.thread - 1]

    @property
    def layout(self) -> Layout:
        return layout_of(self.machine)

    def name(self, thread: int) -> str:
        """The name of a thread: its core, and how often the guest has been left there."""
        machine = self.session.machines[thread - 1]
        exits = machine.vmm.trace.exits if machine.engine.traits.exits_for else 0
        count = counted(exits, "exit")
        return f"{machine.core}, {count}{', ended' if machine.stop is not None else ''}"

    def registers(self) -> list[bytes]:
        return self.layout.read(self.machine)

    def write_registers(self, values: dict[int, bytes]) -> None:
        """Set registers by number. Raises InputError before any is changed."""
        pokes = [self.layout.poke(self.machine, number, data) for number, data in values.items()]
        for poke in pokes:
            if poke is not None:
                self._poke(poke)

    def read(self, address: int, length: int) -> bytes:
        """Memory from a linear address on, as far as the guest's page tables map it. Raises InputError
        where that is nowhere."""
        found = bytearray()
        for byte in peek(self.machine, address, length):
            if byte is None:
                break
            found.append(byte)
        if not found and length:
            raise InputError(f"nothing is mapped at {address:#x}")
        return bytes(found)

    def write(self, address: int, data: bytes) -> None:
        """Raises InputError where not all of it is mapped RAM."""
        if data:
            self._poke(MemoryPoke(address, data))

    def _poke(self, poke: Poke) -> None:
        self._passed = Passed()
        self.session.poke(poke, self.machine.core if self.alone else None)

    # Motion

    def step(self) -> Motion:
        """One instruction."""

        def slice_() -> Stopped | None:
            self.session.step()
            return self._ended() or self._diverged() or Stopped()

        return self._begun(slice_)

    def go_on(self) -> Motion:
        """To the next breakpoint, watchpoint, divergence, or the end."""
        points = self._points()
        return self._begun(self._watching(points) if self.watchpoints else self._running(points))

    def _running(self, points: frozenset[Breakpoint]) -> Motion:
        def slice_() -> Stopped | None:
            if self.session.run(SLICE, points):
                return None
            return self._ended() or self._diverged() or self._arrived()

        return slice_

    def _watching(self, points: frozenset[Breakpoint]) -> Motion:
        """Step by step: before each it is known what the instruction will read, and after it whether
        the bytes under a watchpoint have changed."""
        hits: list[Watchpoint] = []

        def expect() -> None:
            for watchpoint in self.watchpoints:
                watchpoint.old = peek(self.machine, watchpoint.address, watchpoint.length)
            hits[:] = [w for w in self.watchpoints if w.kind != 2 and self._will_access(w)]

        def moved() -> bool:
            hits.extend(w for w in self.watchpoints if w.kind != 3 and self._changed(w))
            if hits or self._is_at(points):
                return True
            expect()
            return False

        expect()

        def slice_() -> Stopped | None:
            outcome = self.session.advance(SLICE, moved)
            if outcome is False:
                return None
            if hits:
                kind = {2: "watch", 3: "rwatch", 4: "awatch"}[hits[0].kind]
                return Stopped(f"{kind}:{hits[0].address:x};")
            return self._ended() or self._diverged() or self._arrived()

        return slice_

    def step_back(self) -> Motion:
        """One instruction backwards."""
        here = self.session.here
        return self._begun_back(lambda: here - 1, self._arrived)

    def go_back(self) -> Motion:
        """To the newest breakpoint or exit before here, or to the beginning."""
        here = self.session.here
        exits = self.stop_at_exits != NEVER
        begins = self.session.begins
        floor = max(begins, self.session.exit_before()) if exits else begins
        addresses = frozenset(self.breakpoints | self.hardware)

        if self._passed.addresses != addresses:
            self._passed = Passed(addresses)

        def target() -> int | None:
            if not addresses:
                return floor
            found = self._passed.newest(self.session, here)
            if found is not None and found >= floor:
                return found
            return floor if self._passed.begin <= floor else None

        return self._begun_back(target, self._arrived)

    def _begun_back(self, target: Callable[[], int | None], arrived: Callable[[], Stopped]) -> Motion:
        """Go back to what ``target`` finds, which may take several calls."""
        self._told_end = self._told_divergence = False
        goal: int | None = None
        begins = self.session.begins

        def slice_() -> Stopped | None:
            nonlocal goal
            if goal is None:
                goal = target()
                return None
            if goal < begins:
                return Stopped("replaylog:begin;")
            if not self.session.seek(goal, SLICE):
                return None
            return Stopped("replaylog:begin;") if goal == begins else arrived()

        return slice_

    def _begun(self, motion: Motion) -> Motion:
        """Motion forwards; where nothing can move any more, the guest is let go."""
        self._passed = Passed()
        if not any(machine.stop is None for machine in self.session.machines):
            return lambda: Stopped(over=self.machine.vmm.exit_status or 0)
        return motion

    def _points(self) -> frozenset[Breakpoint]:
        points: set[Breakpoint] = {OnDivergence()}
        points |= {AtAddress(address) for address in self.breakpoints | self.hardware}
        return frozenset(points | ({OnExit()} if self.stop_at_exits == ALWAYS else set()))

    def _is_at(self, points: frozenset[Breakpoint]) -> bool:
        return any(isinstance(p, AtAddress) and p.address == self._address for p in points)

    @property
    def _address(self) -> int:
        return code_address(self.machine.cpu, self.machine.cpu.rip)

    def _changed(self, w: Watchpoint) -> bool:
        return peek(self.machine, w.address, w.length) != w.old

    def _will_access(self, w: Watchpoint) -> bool:
        machine = self.machine
        try:
            insn = machine.vmm.fetch()
        except GuestFault:
            return False
        return any(
            address < w.address + w.length and w.address < address + length
            for address, length, _ in next_accesses(insn, machine.cpu)
        )

    def _arrived(self) -> Stopped:
        if self._address in self.breakpoints:
            return Stopped("swbreak:;")
        if self._address in self.hardware:
            return Stopped("hwbreak:;")
        return Stopped()

    def _ended(self) -> Stopped | None:
        """The end of all machines, told once; the next motion forwards lets the guest go."""
        if self._told_end or any(machine.stop is None for machine in self.session.machines):
            return None
        self._told_end = True
        lines = [_end(machine) for machine in self.session.machines]
        lines.append("reverse-continue goes back from here; continue lets the guest go.\n")
        return Stopped(words="\n".join(lines))

    def _diverged(self) -> Stopped | None:
        divergence = self.session.divergence
        if divergence is None or self._told_divergence:
            return None
        self._told_divergence = True
        return Stopped(words=f"The cores diverge: {self.divergence()}")

    def divergence(self) -> str:
        """The divergence in words."""
        found = self.session.divergence
        if found is None:
            return "There is no divergence.\n"
        place = f"at {found.asm} " if found.asm else ""
        return f"{place}after {counted(found.instruction, 'instruction')}\n{difference_table(found)}\n"


def _end(machine: Machine) -> str:
    status, stop = machine.vmm.exit_status, machine.stop
    if status is not None:
        return f"{machine.core}: the guest has ended with exit status {status}."
    reason = machine.vmm.reason
    return f"{machine.core}: the guest has ended: {stop}{f' ({reason})' if reason else ''}."
