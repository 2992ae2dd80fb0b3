"""The log of one run, of the student's VMM and of ours alike: what is compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from cores.x86.registers import GPR_NAMES

NAMES = (*GPR_NAMES, "rip", "rflags")
"""The names of the values in ``Event.before`` and ``after``."""
RIP, RFLAGS = 16, 17


@dataclass(slots=True)
class Event:
    """One exit. time: in ticks. before, after: the registers when the guest was left and when it was
    entered again; after is () where it was not. writes: what the VMM stored, (address, hex), in order.
    outs: what it wrote to ports, (port, bytes, value), in order. asked: what it called ``guest.cpuid``
    for, (leaf, subleaf), in order. own: a fault of the guest's own, which no VMM has asked for.
    reason: in a word or two. repeat: a REP instruction. quiet: nothing that the guest could see was
    done: a page was mapped, or the host's timer had struck. silent: ring 3 may execute the instruction
    without a trap."""

    number: int
    time: int
    rip: int
    asm: str
    reason: str
    before: tuple[int, ...]
    mnemonic: str = ""
    repeat: bool = False
    quiet: bool = False
    silent: bool = False
    after: tuple[int, ...] = ()
    writes: list[tuple[int, str]] = field(default_factory=list)
    outs: list[tuple[int, int, int]] = field(default_factory=list)
    asked: list[tuple[int, int]] = field(default_factory=list)
    own: bool = False


@dataclass(slots=True)
class Run:
    """stop: how it ended: "exit", "poweroff", "halted", "shutdown", "until", "returned" (the student's
    vmm() came back while the guest was running), "limit" or "error". status: with exit. words: what
    went wrong, "" where nothing did. line: of the student's file, 0 for none. console, screen: of the
    guest. registers: at the end. events: the first of them; exits: how many there were. ticks: virtual
    time. printed: what the student's code has printed. late: it was stopped after its time."""

    stop: str = "error"
    status: int | None = None
    words: str = ""
    line: int = 0
    console: str = ""
    screen: str | None = None
    registers: tuple[int, ...] = ()
    events: list[Event] = field(default_factory=list)
    exits: int = 0
    ticks: int = 0
    printed: str = ""
    late: bool = False

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def run_of(value: dict[str, object]) -> Run:
    """A run as ``plain`` gives it, through JSON. Raises ValueError, TypeError, KeyError."""
    fields = dict(value)
    events = fields.pop("events")
    if not isinstance(events, list):
        raise ValueError(events)
    run = Run(**fields, events=[_event(each) for each in events])  # type: ignore[arg-type]
    run.registers = tuple(run.registers)
    return run


def _event(value: dict[str, object]) -> Event:
    event = Event(**value)  # type: ignore[arg-type]
    event.before, event.after = tuple(event.before), tuple(event.after)
    event.writes = [(int(at), str(data)) for at, data in event.writes]
    event.outs = [(int(port), int(size), int(number)) for port, size, number in event.outs]
    event.asked = [(int(leaf), int(subleaf)) for leaf, subleaf in event.asked]
    return event
