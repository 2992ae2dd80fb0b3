"""Guests of one mechanism each (guests/*.s), run on all cores together: in lockstep, and free.

A file holds several guests. Each begins with a heading and may set the frame that it runs in:

    ## name [options]: what it proves
    %faults #UD #PF(2)      the faults it must meet, in order; (n): the error code, if it is not 0
    %ends shutdown          how it stops, if not by exit
    ...                     instructions, in ring 0, inside kernel.s
    %user                   instructions in ring 3, which the kernel enters by `jmp enter_user`
    %more                   handlers and data of its own

A line that begins with `!` may fault: the guest goes on behind it. Options: ``bare``: without
kernel.s. ``ram=2``: MiB. ``input=ab``. ``exact``: not in free mode, since there host time decides.
``hardware``: in free mode not on a KVM that lacks abilities of real hardware (its probe tells);
``hardware=always``: in exact mode neither. ``patched``: in free mode not on KVM, which has no
patches: there the host's CPU decides. ``pristine``: in free mode only on trap cores that hide
their patches from a guest that reads its own code. ``bridged``: touches what some hosts map and others
bridge, so that shadow fills differ. ``full``: slow.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from cores.engines import registry
from cores.engines.base import DeprivilegedEngine
from cores.engines.kvm.eventfds import IRQFD
from cores.errors import EngineError
from cores.lockstep.comparison import Lockstep
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.machine.machine import Machine
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program
from cores.programs.program import Program
from cores.vmm.trace import ExitEvent
from cores.x86.isa.instruction import Reason
from cores.x86.registers import VECTOR_NAMES

HERE = Path(__file__).parent
KERNEL = (HERE / "kernel.s").read_text()
HEADING = re.compile(r"^## (\S+)(?: \[(.*)\])?: (.*)$", re.MULTILINE)
ERROR_CODES = frozenset({8, 10, 11, 12, 13, 14, 17})
TRAPS = frozenset({1, 3, 4})
DPL3 = frozenset({3, 4})
PRINTED = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11")
"""The registers that kernel.s prints at the end, in this order."""
REGISTERS = 8 * len(PRINTED)
"""Bytes of registers on the console, before the notes of the faults."""
BUDGET = 20_000
SECONDS = 120.0
"""Host time of a free run. Each guest ends by itself; this only ends one that has lost its way."""


@dataclass(frozen=True)
class Guest:
    """One guest, as its file describes it."""

    name: str
    proves: str
    options: dict[str, str]
    source: str
    faults: tuple[str, ...] | None
    ends: Stop

    @property
    def run_options(self) -> Options:
        ram = int(self.options.get("ram", 4)) << 20
        return Options(ram=ram, input=self.options.get("input", "").encode())


@dataclass
class Outcome:
    """The end of one machine. events: its exits, without those that only the host's mappings cause."""

    core: str
    stop: Stop | None
    status: int | None
    console: bytes
    screen: str | None
    reason: str
    events: list[ExitEvent] = field(default_factory=list)
    by_reason: dict[str, int] = field(default_factory=dict)
    device_accesses: int = 0

    @property
    def told(self) -> dict[str, object]:
        """The values that free mode compares, by name, so that a failing test names the difference."""
        told: dict[str, object] = {"stop": self.stop, "exit status": self.status, "screen": self.screen}
        if len(self.console) >= REGISTERS:
            words = struct.unpack_from(f"<{len(PRINTED)}Q", self.console)
            told |= {name: f"{word:#x}" for name, word in zip(PRINTED, words, strict=True)}
            told["noted faults"] = noted_faults(self.console)
            told["bytes of notes"] = self.console[REGISTERS:].hex(" ")
        else:
            told["console"] = self.console
        return told


# The guests


def load() -> dict[str, Guest]:
    """Read all guests, by name."""
    guests: dict[str, Guest] = {}
    for file in sorted((HERE / "guests").glob("*.s")):
        text = file.read_text()
        headings = list(HEADING.finditer(text))
        for heading, following in zip(headings, [*headings[1:], None], strict=True):
            body = text[heading.end() : following.start() if following else None]
            guest = _guest(heading, body)
            assert guest.name not in guests, f"{guest.name} stands twice"
            guests[guest.name] = guest
    return guests


def _guest(heading: re.Match[str], body: str) -> Guest:
    name, options, proves = heading.groups()
    words = dict((*word.partition("="),)[::2] for word in (options or "").split())
    parts = {"kernel": "", "user": "", "more": ""}
    part, faults, ends = "kernel", None, Stop.EXIT
    for number, line in enumerate(body.splitlines()):
        if line.startswith("%faults"):
            faults = tuple(map(_fault, line.split()[1:]))
        elif line.startswith("%ends"):
            ends = Stop(line.split()[1])
        elif line.startswith("%"):
            part = line[1:].strip()
        else:
            parts[part] += _going_on(line, f"{part}_{number}") + "\n"
    source = parts["kernel"] if "bare" in words else framed(**parts)
    return Guest(name, proves, words, source, faults, ends)


def _fault(text: str) -> str:
    """Write an expected fault as ``noted_faults`` writes it."""
    name, _, error = text.rstrip(")").partition("(")
    return f"{name}({int(error, 0):#x})" if error else name


def _going_on(line: str, label: str) -> str:
    """Translate ``! instruction``: R13 holds the address at which the kernel goes on if it faults."""
    stripped = line.strip()
    if not stripped.startswith("!"):
        return line
    return f"lea r13, [rip + after_{label}]\n{stripped[1:]}\nafter_{label}:"


def framed(kernel: str, user: str = "", more: str = "") -> str:
    """The whole source of a guest, with kernel.s around it."""
    parts = {"kernel": kernel, "user": user, "more": more, "stubs": _stubs(), "gates": _gates()}
    parts["pages"] = ".quad " + ", ".join(f"{page << 12 | 3:#x}" for page in range(512))
    return re.sub(r"^\{(\w+)\}$", lambda m: parts[m[1]], KERNEL, flags=re.MULTILINE)


def _stubs() -> str:
    lines = []
    for vector in range(32):
        push = "" if vector in ERROR_CODES else "push 0; "
        lines.append(f"v{vector}: {push}push {vector}; jmp {'trap' if vector in TRAPS else 'fault'}")
    for vector in (0x40, 0x41, 0x42, 0x43, 0x47):
        lines.append(f"v{vector}: push 0; push {vector}; jmp trap")
    return "\n".join(lines)


def _gates() -> str:
    def gate(label: str, attributes: int = 0x8E, selector: int = 0x10, ist: int = 0) -> str:
        low = f"{label} - _start" if label else "0"
        return f".short {low}; .short {selector}; .byte {ist}; .byte {attributes}; .short 0x10; .quad 0"

    gates = [gate(f"v{v}", 0xEE if v in DPL3 else 0x8E) for v in range(32)]
    gates += [gate("interrupt")] * 16
    gates += [gate("")] * 16
    gates += [gate("v64", 0xEE), gate("v65", 0xEF), gate("v66"), gate("v67", 0x6E)]
    gates += [
        gate("v67", 0xEC),
        gate("v67", 0xEE, 0),
        gate("v67", 0xEE, 0x18),
        gate("v71", 0xEE, ist=2),
    ]
    gates += [gate("finish", 0xEE)]
    return "\n".join(gates)


@cache
def program(guest: str) -> Program:
    """Assemble a guest, once for each."""
    return assemble_program(GUESTS[guest].source.encode(), f"{guest}.s")


GUESTS = load()


# Running them


def named(*, free: bool) -> list[ParameterSet]:
    """The guests' names as parameters of a test."""
    return [
        pytest.param(name, marks=[pytest.mark.full] if "full" in guest.options else [])
        for name, guest in GUESTS.items()
        if not (free and "exact" in guest.options)
    ]


def wanted(core: str) -> bool:
    """Whether tests of many cores are to include it: RINGSCOPE_TEST_CORES lists those that are; without
    it all are."""
    listed = os.environ.get("RINGSCOPE_TEST_CORES")
    return listed is None or core in listed.split(",")


def cores(guest: Guest | None = None, *, exact: bool = True) -> list[str]:
    """The cores that run here and can run this guest, the interpreter first."""
    here = [c for c in registry.CORE_NAMES if wanted(c) and registry.availability(c).available]
    needs = guest.options.get("hardware") if guest else None
    demanding = needs is not None and (not exact or needs == "always")
    if "kvm" in here and demanding and not kvm_is_whole():
        here.remove("kvm")
    if "kvm" in here and guest and "patched" in guest.options and not exact:
        here.remove("kvm")
    if guest and "pristine" in guest.options and not exact and not native_hides_code():
        here.remove("trap:native")
    return here


def lockstep(
    loaded: Program, options: Options, names: list[str], budget: int = BUDGET
) -> list[Outcome]:
    """Run step for step on all of these cores; fail at the first divergence. A KVM whose host lacks
    abilities leaves the comparison."""
    machines = [start(loaded, name, options) for name in names]
    try:
        for machine in machines:
            machine.vmm.budget = budget
        compared = Lockstep(list(machines))
        while any(m.stop is None for m in machines) and compared.divergence is None:
            for machine in machines:
                if machine.stop is None:
                    _step(machine)
            compared.leave([m for m in compared.machines if _left(m)])
            compared.after_step()
        compared.at_end()
        assert compared.divergence is None
        return [_outcome(m) for m in machines if not _left(m)]
    finally:
        for machine in reversed(machines):
            machine.close()


def _left(machine: Machine) -> bool:
    return machine.core == "kvm" and machine.stop is Stop.ERROR


def _step(machine: Machine) -> None:
    try:
        machine.step()
    except EngineError as error:
        machine.vmm.fail(str(error))


def free(loaded: Program, options: Options, name: str, seconds: float = SECONDS) -> Outcome:
    """Run at full speed on one core."""
    machine = start(loaded, name, options)
    try:
        machine.run_free(seconds)
        return _outcome(machine)
    finally:
        machine.close()


def _outcome(machine: Machine) -> Outcome:
    trace = machine.vmm.trace
    return Outcome(
        machine.core, machine.stop, machine.vmm.exit_status, bytes(machine.board.console),
        machine.board.screen(), machine.vmm.reason, list(trace.events),
        {reason.value: count for reason, count in trace.by_reason.items()}, machine.board.accesses,
    )  # fmt: skip


def exits(outcome: Outcome, guest: Guest) -> list[tuple[int, int, Reason, str, int]]:
    """The part of the exits that two trap cores must have in common."""
    differing = {Reason.SHADOW} if "bridged" in guest.options else set()
    events = (e for e in outcome.events if e.reason not in differing)
    return [(e.n, e.rip, e.reason, e.detail, e.ring) for e in events]


def noted_faults(console: bytes) -> list[str]:
    """The faults that a guest's kernel noted, as "#PF(2)"."""
    found = []
    for at in range(REGISTERS, len(console), 16):
        vector, error = console[at], int.from_bytes(console[at + 2 : at + 4], "little")
        if vector == 0xFF:
            name = "syscall"
        elif vector < 32:
            name = VECTOR_NAMES[vector]
        else:
            name = f"{vector:#x}"
        found.append(name + (f"({error:#x})" if error else ""))
    return found


@cache
def kvm_is_whole() -> bool:
    """Has this host's KVM all abilities of hardware support? KVM's own probe answers."""
    abilities = registry.availability("kvm", detailed=True).abilities
    return all(present for name, present, _ in abilities if name != IRQFD)


@cache
def native_hides_code() -> bool:
    """Has this CPU execute-only pages (protection keys)? Otherwise a guest can read the patches."""
    if not registry.availability("trap:native").available:
        return True
    engine = registry.create("trap:native")
    try:
        return isinstance(engine, DeprivilegedEngine) and engine.hides_code
    finally:
        engine.close()


def skip_unless_assembled() -> pytest.MarkDecorator:
    from cores.programs.assembler import keystone as assembler

    return pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")
