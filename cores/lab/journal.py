"""The log of a student's VMM while it runs, and the exits that come for ever."""

from __future__ import annotations

from cores.lab.errors import LabError
from cores.lab.log import RIP, Event
from cores.lab.parts import Memory, Ports
from cores.lab.stop import TIMER, Stop
from cores.x86.registers import Vector

MOST_EVENTS = 4000
"""Exits of which the log keeps everything."""
MOST_STORED = 512
"""Bytes of one store that are kept."""
MOST_OUTS = 64
"""Writes to ports, and questions to CPUID, at one exit that are kept."""
MOST_REPEATS = 3
"""The same exit so often in a row, with nothing changed between, comes for ever."""
MOST_FAULTS = 2000
"""The same exit so often in a row, whatever the VMM does between."""


class Journal:
    """Makes an event of each exit. events: the first of them. exits: their number. changes: of
    mappings, patches, ring and memory since the last exit."""

    def __init__(self, memory: Memory, ports: Ports) -> None:
        self.events: list[Event] = []
        self.exits = 0
        self.changes = 0
        self._memory, self._ports = memory, ports
        self._event: Event | None = None
        self._repeats = self._same = 0
        self._last: tuple[object, ...] = ()

    def left(self, stop: Stop, time: int, state: tuple[int, ...], *, own: bool) -> None:
        """The guest has been left. Raises LabError where this exit comes again and again."""
        self.exits += 1
        insn = stop.instruction
        self._event = event = Event(
            self.exits, time, stop.rip, insn.text if insn else "", stop.reason, state,
            insn.mnemonic if insn else "", repeat=bool(insn and insn.repeat), own=own,
        )  # fmt: skip
        self._keep(event)
        this = (stop.kind, stop.vector, stop.address, state)
        if stop.kind != TIMER and self._last == this:
            self._same += 1
            self._repeats = self._repeats + 1 if not self.changes else 0
            if self._repeats >= MOST_REPEATS or self._same >= MOST_FAULTS:
                raise LabError(_endless(stop, event))
        else:
            self._same = self._repeats = 0
        self._last, self.changes = this, 0
        self._memory.changed.clear()
        self._ports.written.clear()

    def asked(self, leaf: int, subleaf: int) -> None:
        """The VMM asks what CPUID is to give."""
        if self._event is not None and len(self._event.asked) < MOST_OUTS:
            self._event.asked.append((leaf, subleaf))

    def entered(self, state: tuple[int, ...]) -> None:
        """The guest is entered again, in this state."""
        if self._event is not None:
            self._event.after = state
            self._event.quiet = state == self._event.before
            self._stores(self._event)
            self._event = None

    def ended(self) -> None:
        """The guest is not entered again."""
        if self._event is not None:
            self._stores(self._event)

    def interrupted(self, time: int, state: tuple[int, ...]) -> None:
        """An interrupt is taken at an exit that had its own reason: the log has two exits then."""
        event = self._event
        if event is None:
            return
        if event.before == state:
            event.reason = "irq"
            return
        event.after = state
        self._stores(event)
        self._event = Event(event.number, time, state[RIP], "", "irq", state)
        self._keep(self._event)

    def _keep(self, event: Event) -> None:
        if len(self.events) < MOST_EVENTS:
            self.events.append(event)

    def _stores(self, event: Event) -> None:
        """Move what the VMM has stored, and written to ports, into the log."""
        event.outs = self._ports.written[:MOST_OUTS]
        self._ports.written.clear()
        written = self._memory.changed
        self.changes += len(written)
        event.writes = [
            (at, self._memory.read(at, n).hex())
            for at, n in written[:64]
            if n <= MOST_STORED and self._memory.is_ram(at, n)  # a device's registers are not read
        ]
        written.clear()


def _endless(stop: Stop, event: Event) -> str:
    at = f"at {stop.rip:#x}" + (f" `{event.asm}`" if event.asm else "")
    if stop.vector == Vector.PF and stop.address is not None:
        return (
            f"the guest faults {at} again and again, on the address {stop.address:#x}: your VMM"
            " enters it, and that page still does not permit the access (error code"
            f" {stop.error or 0:#x})"
        )
    if event.own:
        return f"{at}: {own_fault(event)}"
    return (
        f"{at}: your VMM left RIP at the instruction: it runs again, for ever ({event.reason}); one"
        " that is done needs guest.registers.rip += stop.instruction.length"
    )


def own_fault(event: Event) -> str:
    """What is to be done at a fault of the guest's own."""
    return (
        f"the exception ({event.reason}) is the guest's own: deliver it, or, if there is no gate,"
        " guest.shutdown()"
    )
