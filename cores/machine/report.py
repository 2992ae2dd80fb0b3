"""Reports and snapshots: frozen values that cross threads and leave the program.

The interface draws ``MachineSnapshot`` and ``SessionSnapshot``; ``compare --json`` prints
``CoreReport`` and ``CompareReport`` (contract.md, Commands). Nothing here refers to an engine's object.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cores.engines.base import RingZero
from cores.pc.ram_image import RamImage
from cores.pc.stop import Stop
from cores.vmm.trace import ExitEvent, Site
from cores.x86.mode import Mode


@dataclass(frozen=True, slots=True)
class CoreReport:
    """One machine's end, as `compare` shows it. Fields as in contract.md; registers, cpu_mode and
    memory are None for a core that never ran, and cpu_mode on the 68000 machine. Only in the text
    report: emulated and delivered, see ``GuestContext``; caveat, see ``Engine``; ring_zero, see
    ``RingZero``; limit, see ``Failed``. other: of the other machine on the same hub."""

    core: str
    engine: str
    available: bool
    reason: str | None
    stop: Stop | None = None
    exit_status: int | None = None
    instructions: int | None = None
    exits: int = 0
    exits_by_reason: dict[str, int] = field(default_factory=dict)
    device_accesses: int = 0
    bridged: int = 0
    console: str = ""
    screen: str | None = None
    registers: dict[str, int] | None = None
    cpu_mode: Mode | None = None
    memory: RamImage | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    emulated: int = 0
    delivered: int = 0
    caveat: str = ""
    ring_zero: RingZero = RingZero.SIMULATED
    limit: str = ""
    other: CoreReport | None = None

    @property
    def memory_sha256(self) -> str | None:
        """SHA-256 of ``memory`` in hexadecimal; computed at each call."""
        return None if self.memory is None else self.memory.sha256()

    @property
    def failed(self) -> bool:
        """Did the machine stop with an error of the host's, or at a limit of the platform's?"""
        return self.stop is Stop.ERROR


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference between cores. instruction: count before it; asm: the instruction just
    executed (None in free mode); values: {core: {name: value}}, value an int, a str or None. remark: a
    sentence on why both results may be right, else ""."""

    instruction: int
    rip: int
    asm: str | None
    differs: tuple[str, ...]
    values: dict[str, dict[str, int | str | None]]
    remark: str = ""


@dataclass(frozen=True, slots=True)
class CompareReport:
    """The whole result of `compare`. equivalent: None when fewer than two cores could be compared.
    left: cores that stopped with an error and so left the comparison. unmet: "core: reason" for each
    core that causes exit code 3 (contract.md, Exit codes). stretches, led: see ``Lead``
    (cores/lockstep/leader.py). recognized: see ``Program``."""

    path: str
    format: str
    entry: int
    size: int
    sha256: str
    mode: str
    equivalent: bool | None
    divergence: Divergence | None
    cores: tuple[CoreReport, ...]
    peers: tuple[CoreReport, ...] = ()
    left: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    stretches: int = 0
    led: int = 0
    recognized: str = ""


@dataclass(frozen=True, slots=True)
class ExitLine:
    """One exit, as `trace` shows it. Fields as in contract.md; n is None where the CPU ran on its own
    and instructions were not counted, asm "" where no instruction caused the exit (an interrupt),
    linear: the linear address where it is not ``rip``, else None. source None where no source line is
    known."""

    n: int | None
    rip: int
    code: bytes
    asm: str
    cpu_mode: Mode
    reason: str
    detail: str
    handled: str
    ring: int
    ns: int
    vmm_ns: int
    source: str | None = None
    linear: int | None = None


@dataclass(frozen=True, slots=True)
class StepLine:
    """One completed instruction, as `trace --steps` shows it. changed: registers by name, and
    "mem:0xADDR" -> the bytes stored there (physical addresses)."""

    n: int
    rip: int
    code: bytes
    asm: str
    changed: dict[str, int | bytes]


TraceLine = ExitLine | StepLine


@dataclass(frozen=True, slots=True)
class CodeLine:
    """A line of disassembly. text: "out dx, al". source: the program's own line, or "".
    kind: "direct" | "privileged" | "silent" | "absent"; "data": no instruction, and text is the
    source's. exits: number of exits at this address."""

    address: int
    code: bytes
    text: str
    source: str
    kind: str
    exits: int


@dataclass(frozen=True, slots=True)
class MachineSnapshot:
    """One machine at one moment, for the screen.

    registers: names and values in ``registers.STATE_NAMES`` order (or the foreign CPU's own).
    changed: names that the last step changed. ring: virtual CPL; real_ring: the real CPU's ring, None
    where software executes the guest (an emulator, or the host's kernel for ring 0). stop: None while
    the machine can go on.
    events: the newest exits, oldest first; ``exits`` counts all.
    reads: registers that the next instruction reads. ns_by_reason, vmm_ns_by_reason: ``ns`` and
    ``vmm_ns`` of all exits so far (``ExitEvent``). emulated, delivered: see ``GuestContext``.
    ring_zero, nested_paging: see ``Traits``.
    kernel_exits: the host kernel's own counters since the machine began, None where it has none.
    awaits_key, takes_keys: see ``Machine``.
    seconds: host time spent in running the guest; cpu_seconds: see ``Engine``.
    before: the values that ``changed`` had at ``SessionSnapshot.since``.
    done: the instruction completed last, None where that is not known.
    sites: guest address -> the exits there.
    tables: "gdtr" and "idtr" -> base, as the guest has loaded them.
    real: what the CPU holds, see ``Engine.real_registers``.
    user_pages: numbers of pages near the next instruction whose code is a guest's program's (ring 3).
    mode: of the CPU, for the next instruction. cursor: row and column on the VGA screen, if any.
    """

    core: str
    engine: str
    label: str
    where: str
    registers: dict[str, int]
    changed: frozenset[str]
    ring: int
    real_ring: int | None
    instructions: int | None
    exits: int
    exits_by_reason: dict[str, int]
    device_accesses: int
    bridged: int
    console: str
    screen: str | None
    stop: Stop | None
    reason: str
    exit_status: int | None
    code: tuple[CodeLine, ...]
    events: tuple[ExitEvent, ...]
    notes: tuple[str, ...]
    reads: frozenset[str] = frozenset()
    ns_by_reason: dict[str, int] = field(default_factory=dict)
    vmm_ns_by_reason: dict[str, int] = field(default_factory=dict)
    emulated: int = 0
    delivered: int = 0
    ring_zero: RingZero = RingZero.SIMULATED
    nested_paging: bool | None = False
    kernel_exits: dict[str, int] | None = None
    awaits_key: bool = False
    takes_keys: bool = False
    seconds: float = 0.0
    cpu_seconds: float | None = None
    before: dict[str, int] = field(default_factory=dict)
    done: CodeLine | None = None
    sites: dict[int, Site] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    real: dict[str, int] | None = None
    user_pages: frozenset[int] = frozenset()
    mode: Mode = Mode.LONG
    cursor: tuple[int, int] | None = None


def direct_share(machine: CoreReport | MachineSnapshot) -> float | None:
    """Efficiency (Popek and Goldberg): the share of the guest's instructions that ran without the VMM,
    0 to 1: all but those that caused an exit, were bridged, or were emulated without one.
    None where software executes all of them, none has run, or it is not counted how many ran on the
    CPU: in free mode, and where the host's kernel interprets ring 0."""
    if machine.core == "interpreter" or not machine.instructions:
        return None
    if machine.ring_zero in (RingZero.INTERPRETED, RingZero.UNKNOWN):
        return None
    away = machine.exits - machine.delivered + machine.bridged + machine.emulated
    return max(0.0, 1 - away / machine.instructions)


def percent(share: float) -> str:
    """A share (0 to 1) as text, rounded down so that less than all is never "100 %"."""
    if share >= 1:
        return "100 %"
    return f"{int(share * 1000) / 10:.1f} %" if share < 0.999 else f"{int(share * 1e5) / 1e3:.3f} %"


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """All machines of a session at one moment. compared: steps found equal. running: a run is under
    way. mode: "exact" | "free". unavailable: (core, reason) for those that cannot run here.
    error: our own failure in words, "" when there is none. audits, escaped: see ``Control``
    (cores/machine/isolation_audit.py).
    symbols: of the program, name -> address. reached: the breakpoint that ended the last run, in
    words. marks: instructions at which a machine exited, thinned out where they are many.
    progress: (instructions done, wanted) during a seek to an instruction, else None.
    disk: path of the guests' data disk, "" for none.
    since: the instruction at which the user stopped last: ``changed`` counts from there.
    source: the program's lines; lines: address -> number of its line, from 1; listing: address -> the
    instruction there, as the program was loaded; files, note: see ``Program``. All of these are the
    session's own, and never change.
    mark_counts: how many instructions exited in the stretch that each of ``marks`` stands for.
    pure: sensitive instructions that do not trap run unseen."""

    serial: int
    path: str
    mode: str
    running: bool
    compared: int
    divergence: Divergence | None
    machines: tuple[MachineSnapshot, ...]
    unavailable: tuple[tuple[str, str], ...]
    error: str = ""
    audits: int | None = None
    escaped: tuple[str, ...] = ()
    symbols: dict[str, int] = field(default_factory=dict)
    reached: str = ""
    marks: tuple[int, ...] = ()
    progress: tuple[int, int] | None = None
    disk: str = ""
    since: int = 0
    source: tuple[str, ...] = ()
    lines: dict[int, int] = field(default_factory=dict)
    listing: dict[int, CodeLine] = field(default_factory=dict)
    mark_counts: tuple[int, ...] = ()
    pure: bool = False
    files: tuple[tuple[int, str], ...] = ()
    note: str = ""
