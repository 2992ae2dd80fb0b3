"""A session that needs no engine: three machines print a text, deterministically.

The interface's tests are fed with it, so that they test drawing and keys, and fail for nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fake_views import answer

from cores.debugging.breakpoints import AtAddress, Breakpoint
from cores.debugging.edits import Poke
from cores.engines.base import RingZero
from cores.inspection.views import Around, Query, View
from cores.machine.report import CodeLine, Divergence, MachineSnapshot, SessionSnapshot
from cores.pc.stop import Stop
from cores.vmm.trace import ExitEvent, Site
from cores.x86.isa.instruction import Reason
from cores.x86.registers import STATE_NAMES

NOWHERE: frozenset[Breakpoint] = frozenset()
TEXT = "Hello, ring 0!\n"

PROGRAM = (
    (0x100000, "fa", "cli", "start:  cli                # no interrupts, please", "privileged"),
    (0x100001, "9c", "pushfq", "        pushfq             # which flags do I have?", "silent"),
    (0x100002, "488d35f7ffffff", "lea rsi, [rip - 9]", "        lea rsi, [rip + text]", "direct"),
    (
        0x100009,
        "8a06",
        "mov al, byte ptr [rsi]",
        "next:   mov al, [rsi]      # the next letter",
        "direct",
    ),
    (0x10000B, "84c0", "test al, al", "        test al, al", "direct"),
    (0x10000D, "7407", "je 0x100016", "        je done            # zero ends it", "direct"),
    (0x10000F, "e6e9", "out 0xe9, al", "        out 0xe9, al       # the call home", "privileged"),
    (0x100011, "48ffc6", "inc rsi", "        inc rsi", "direct"),
    (0x100014, "ebf3", "jmp 0x100009", "        jmp next", "direct"),
    (0x100016, "b000", "mov al, 0", "done:   mov al, 0", "direct"),
    (0x100018, "e6f4", "out 0xf4, al", "        out 0xf4, al       # the end: status 0", "privileged"),
    (0x10001A, "fa", "cli", "        cli", "privileged"),
    (0x10001B, "f4", "hlt", "        hlt", "privileged"),
)

SOURCE = (
    "# hello: prints a text, and ends.", "",
    *(source for _, _, _, source, _ in PROGRAM),
    'text:   .asciz "Hello, ring 0!\\n"',
)  # fmt: skip
LISTING = {a: CodeLine(a, bytes.fromhex(c), t, s, k, 0) for a, c, t, s, k in PROGRAM}
LINES = {address: number for number, address in enumerate(LISTING, 3)}

WHERE = {
    "interpreter": (
        "software executes every instruction",
        "host memory at 0x7f21c0a8d3a0",
    ),
    "trap:native": ("this CPU executes, held in ring 3", "process 4711, CPU 1"),
    "trap:portable": ("Unicorn at ring 3 stands in for it", "host memory at 0x7f21c0b00000"),
    "kvm": ("this CPU executes, in guest mode", "vCPU 0 of /dev/kvm"),
}
RING_ZERO = {
    "interpreter": RingZero.SIMULATED, "trap:native": RingZero.DEPRIVILEGED,
    "trap:portable": RingZero.DEPRIVILEGED, "kvm": RingZero.GUEST_MODE,
}  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """The machine before one instruction. at: index into PROGRAM, None at the end."""

    at: int | None
    registers: dict[str, int]
    changed: frozenset[str] = frozenset()
    console: str = ""


def boot() -> dict[str, int]:
    registers = dict.fromkeys(STATE_NAMES, 0)
    registers |= {
        "rip": 0x100000, "rflags": 0x202, "rsp": 0xFFFFF8, "rdi": 0x10000, "cs": 0x10,
        **dict.fromkeys(("ss", "ds", "es", "fs", "gs"), 0x18),
        "cr0": 0x80050033, "cr3": 0x12000, "cr4": 0x620, "efer": 0xD01,
    }  # fmt: skip
    return registers


def history(text: str) -> list[Moment]:
    """All states of the program, in order."""
    registers = boot()
    moments = [Moment(0, registers)]
    console = ""

    def go(at: int | None, **changes: int) -> None:
        nonlocal registers
        target = PROGRAM[at][0] if at is not None else PROGRAM[11][0]
        new = {**registers, **changes, "rip": target}
        changed = frozenset(name for name in new if new[name] != registers[name])
        registers = new
        moments.append(Moment(at, registers, changed, console))

    go(1, rflags=0x002)
    go(2, rsp=0xFFFFF0)
    go(3, rsi=0x100100)
    for letter, char in enumerate(text + "\0"):
        rax = ord(char)
        go(4, rax=rax)
        go(5, rflags=0x046 if rax == 0 else 0x006)
        if not rax:
            go(9)
            break
        go(6)
        console += char
        go(7)
        go(8, rsi=0x100101 + letter)
        go(3)
    go(10, rax=0)
    go(None)
    return moments


REAL = {
    "cs": 0x33, "ss": 0x2B, "ds": 0, "es": 0, "fs": 0, "gs": 0, "rflags": 0x202, "rip": 0x10000F,
    "rax": 0x48, "rsp": 0xFFFFF0,
}  # fmt: skip

EXITS = {
    0: (Reason.FLAGS, "virtual IF = 0", "the CPU refused it: #GP"),
    1: (Reason.FLAGS, "pushed the virtual flags 0x2", "found before it ran"),
    6: (Reason.IO, "console {!r}", "the CPU refused it: #GP"),
    10: (Reason.IO, "exit with 0", "the CPU refused it: #GP"),
}


def _sums(events: list[ExitEvent], of: Callable[[ExitEvent], int]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for event in events:
        sums[event.reason.value] = sums.get(event.reason.value, 0) + of(event)
    return sums


@dataclass
class FakeSession:
    """A session without engines; see the module. calls: the requests made, in order. spin: the program
    never ends."""

    text: str = TEXT
    cores: tuple[str, ...] = ("interpreter", "trap:native", "kvm")
    diverges: bool = False
    error: str = ""
    screen: str | None = None
    spin: bool = False
    unavailable: tuple[tuple[str, str], ...] = ()
    escaped: tuple[str, ...] = ()
    calls: list[str] = field(default_factory=list)
    n: int = 0
    mode: str = "exact"
    closed: bool = False
    typed: str = ""
    reached: str = ""
    poked: list[tuple[Poke, str | None]] = field(default_factory=list)
    since: int = 0
    serial_text: str | None = None
    cursor: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self.moments = history(self.text)
        self.thread = threading.get_ident()
        self.serial = 0
        self.spun = 0

    @property
    def last(self) -> int:
        return len(self.moments) - 1

    def _called(self, name: str) -> None:
        assert threading.get_ident() == self.thread, f"{name} from another thread"
        if name in ("step", "next_exit", "go_to", "run", "poke"):
            self.since = self.n
        self.calls.append(name)

    def step(self) -> None:
        self._called("step")
        self.n = min(self.n + 1, self.last)

    @property
    def here(self) -> int:
        return self.n

    def exit_before(self) -> int:
        before = (n for n in range(self.n - 1, -1, -1) if self.moments[n].at in EXITS)
        return next(before, 0)

    def next_exit(
        self, reason: Reason | None, limit: float, breakpoints: frozenset[Breakpoint]
    ) -> bool:
        self._called("next_exit")
        while self.n < self.last:
            self.n += 1
            if self.moments[self.n - 1].at in EXITS:
                break
        return True

    def seek(self, instruction: int, seconds: float) -> bool:
        self._called("go_to")
        self.n = min(instruction, self.last)
        return True

    def run(
        self, seconds: float, breakpoints: frozenset[Breakpoint] = NOWHERE, steps: int | None = None
    ) -> bool:
        self._called("run" if steps is None else "step")
        self.reached = ""
        stops = {str(b): b.address for b in breakpoints if isinstance(b, AtAddress)}
        for n in range(self.n + 1, self.last + 1):
            for words, address in stops.items():
                if self.moments[n].registers["rip"] == address:
                    self.n, self.reached = n, words
                    return False
        if self.spin:
            self.spun += 1
            threading.Event().wait(min(seconds, 0.005))
            self.n = 3 + (self.n - 2) % 6
            return True
        self.n = self.last
        return False

    def run_free(self, seconds: float) -> bool:
        self.mode = "free"
        return self.run(seconds)

    def restart(self) -> None:
        self._called("restart")
        self.n, self.mode, self.since = 0, "exact", 0

    def key(self, text: str) -> None:
        self._called("key")
        self.typed += text

    def poke(self, poke: Poke, core: str | None = None) -> None:
        self._called("poke")
        self.poked.append((poke, core))

    def query(self, query: Query) -> View | None:
        return answer(self, query)

    def around(self, core: str, number: int) -> Around | None:
        self._called("around")
        return Around((("rip", 0x10000F, 0x100011),))

    def interrupt(self) -> None:
        self.calls.append("interrupt")

    def close(self) -> None:
        self.closed = True

    def snapshot(self) -> SessionSnapshot:
        assert not self.closed
        self.serial += 1
        machines = tuple(self._machine(core) for core in self.cores)
        divergence = None
        if self.diverges and self.n > 1:
            values: dict[str, dict[str, int | str | None]] = {
                core: {"rflags": m.registers["rflags"]}
                for core, m in zip(self.cores, machines, strict=True)
            }
            divergence = Divergence(1, 0x100001, "pushfq", ("rflags",), values)
        return SessionSnapshot(
            serial=self.serial, path="hello.s", mode=self.mode, running=False, compared=self.n,
            divergence=divergence, machines=machines, unavailable=self.unavailable,
            symbols={"start": 0x100000, "next": 0x100009, "done": 0x100016}, reached=self.reached,
            audits=1, escaped=self.escaped,
            marks=tuple(n for n, m in enumerate(self.moments[: self.n]) if m.at in EXITS),
            since=self.since, source=SOURCE, lines=LINES, listing=LISTING,
        )  # fmt: skip

    def _machine(self, core: str) -> MachineSnapshot:
        now = self.moments[self.n]
        virtual = core == "interpreter"
        events = [] if virtual else self.events(core)
        reasons: dict[str, int] = {}
        for event in events:
            reasons[event.reason.value] = reasons.get(event.reason.value, 0) + 1
        sites: dict[int, Site] = {}
        for event in events:
            own, _, _, ns = sites.get(event.rip, (0, 0, 0, 0))
            sites[event.rip] = Site(own + 1, 0, 0, ns + event.ns)
        stop = Stop.EXIT if now.at is None else None
        reason = ""
        if self.error and core == "trap:native":
            stop, reason = Stop.ERROR, self.error
        label, where = WHERE[core]
        registers = now.registers
        if self.diverges and core == "trap:native" and self.n > 1:
            registers = {**registers, "rflags": registers["rflags"] | 0x200}
        old = self.moments[self.since].registers
        before = {
            name: old[name] for name in registers if old[name] != registers[name] and name != "rip"
        }
        done = self.moments[self.n - 1].at if self.n and self.mode == "exact" else None
        m = MachineSnapshot(
            core=core, engine="fake", label=label, where=where, registers=registers,
            changed=frozenset(before), before=before, ring=0,
            real_ring={"trap:native": 3, "kvm": 0}.get(core),
            instructions=self.n if self.mode == "exact" or virtual else None, exits=len(events),
            exits_by_reason=reasons, device_accesses=len(now.console), bridged=0,
            console=now.console if self.serial_text is None else self.serial_text,
            screen=self.screen, stop=stop, reason=reason, exit_status=0 if stop is Stop.EXIT else None,
            code=tuple(
                CodeLine(
                    a, bytes.fromhex(c), t, s, "direct" if core == "kvm" and k == "silent" else k,
                    sites[a].own if a in sites else 0,
                )
                for a, c, t, s, k in PROGRAM
            ),
            events=tuple(events[-64:]), notes=(),
            ns_by_reason=_sums(events, lambda e: e.ns),
            vmm_ns_by_reason=_sums(events, lambda e: e.vmm_ns),
            ring_zero=RING_ZERO[core], nested_paging=core == "kvm", sites=sites,
            done=None if done is None else LISTING[PROGRAM[done][0]],
            tables={"gdtr": 0x11000, "idtr": 0},
            real=dict(REAL) if core == "trap:native" else None, cursor=self.cursor,
        )  # fmt: skip
        at = now.at
        return replace(m, reads=frozenset({"rsi"} if at in (3, 7) else {"rax"} if at in (4, 6) else ()))

    def events(self, core: str) -> list[ExitEvent]:
        events = []
        for n, moment in enumerate(self.moments[: self.n]):
            if moment.at not in EXITS or (core == "kvm" and moment.at < 6):
                continue
            reason, detail, handled = EXITS[moment.at]
            handled = "left to the VMM" if core == "kvm" else handled
            address, code, *_ = PROGRAM[moment.at]
            char = chr(moment.registers["rax"])
            counted = n if self.mode == "exact" else None
            events.append(
                ExitEvent(
                    counted, address, bytes.fromhex(code), reason,
                    detail.format(char), handled, 0, 21_000 if core != "kvm" else 9_400,
                    5_000,
                )
            )  # fmt: skip
        return events
