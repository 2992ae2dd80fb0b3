"""The values of the names in a lesson's expressions.

    CORE.rax .. gs_base   registers (parts too: al, ecx)    CORE.instructions  completed so far
    CORE.exits            interventions of the VMM          CORE.exits.io      those for that reason
    CORE.us.io            µs of one such exit, world        CORE.vmm_us.io     the VMM's part of it
                          switches included
    CORE.direct           share run without the VMM, %      CORE.kernel.exits  the host kernel's counts
    CORE.ring             virtual privilege level           CORE.real_ring     where it truly runs
    CORE.console, screen  what it has printed               CORE.next          the next instruction
    CORE.source           that one's line in the source     CORE.flag_if ...   flags, 0 or 1
    CORE.stop, status     why it has ended, exit status     CORE.where, engine, label, core
    CORE.accesses         device accesses                   CORE.bridged       completed in software
    CORE.emulated         completed by the VMM without an exit (KVM in exact mode)
    CORE.seconds          host time of its run              CORE.cpu_seconds   CPU time of its process,
                                                            None where it has none of its own
    CORE.last.reason      its last exit (None before it); also detail, handled, asm, us, vmm_us, n, rip,
                          ring
    CORE.byte[A] word dword qword text    guest memory at a linear address or symbol
    new.CORE.exits ...    numbers: how much they grew by the last move
    each.NAME             on each machine that is here
    here.CORE             is that core here?
    here.kvm_hardware     does the CPU execute KVM's ring 0 (else the host's kernel does)?
    here.kvm_nested       does the CPU walk KVM's page tables (else the host's kernel shadows them)?
    machines              how many are here
    compared, diverged, divergence.asm, .instruction, .differs
    speed.stepped, .watched, .translated, .direct   nanoseconds an instruction, measured
                          (lessons/play/measure.py)
    lesson['memory']      the number of a lesson of the course, by its name
    simulation            what the model of lessons/play/simulation.py prints
    true, false           for questions that no machine can answer

CORE is interpreter, trap (native or portable), kvm.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cores.engines.base import RingZero
from cores.machine.report import CodeLine, MachineSnapshot, SessionSnapshot, direct_share
from cores.vmm.trace import ExitEvent
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode, text
from cores.x86.registers import FLAG_BITS, GPR_NAMES, REGISTER_FILE, STATE_NAMES
from lessons.format import numbering
from lessons.format.expressions import CORE_NAMES, EACH, REASONS, Expression, ExpressionError, Value
from lessons.play import measure, simulation

SIZES = {"byte": 1, "word": 2, "dword": 4, "qword": 8}
LONGEST_TEXT = 80

Peek = Callable[[str, str, int], bytes]
"""(core, address or symbol, length) -> bytes of guest memory. Raises ExpressionError."""


class Hex(int):
    """A number that people read in hexadecimal."""

    def __str__(self) -> str:
        return f"{int(self):#x}" if self > 9 else str(int(self))


class Absent(ExpressionError):
    """The expression speaks of a core that is not here."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The machines at one moment. before: where the last move began. numbers: those of the seed,
    and the learner's answer. peek: reads guest memory."""

    now: SessionSnapshot
    before: SessionSnapshot
    peek: Peek
    numbers: Mapping[str, Value] = field(default_factory=dict)
    each: str = ""

    def value(self, expression: Expression) -> Value:
        """Raises ExpressionError; Absent where a core is not here."""
        return expression.value(self.lookup)

    def holds(self, expression: Expression) -> tuple[bool, str]:
        """Truth of an expression on each core that it is about; the core where it is false, else ""."""
        if not expression.for_each:
            return bool(self.value(expression)), ""
        for machine in self.now.machines:
            scene = Scene(self.now, self.before, self.peek, self.numbers, short(machine.core))
            if not scene.value(expression):
                return False, machine.core
        return True, ""

    def lookup(self, name: tuple[str, ...]) -> Value:
        """The value of a dotted name."""
        match name:
            case (number,) if number in self.numbers:
                return self.numbers[number]
            case ("true" | "false" as constant,):
                return constant == "true"
            case ("simulation",):
                return "".join(simulation.guest())
            case ("speed", kind) if kind in measure.KINDS:
                return _speed(kind)
            case ("lesson", title):
                if title not in numbering.numbers():
                    raise ExpressionError(
                        unknown(f"lesson['{title}']", title, list(numbering.numbers()))
                    )
                return numbering.numbers()[title]
            case ("machines",):
                return len(self.now.machines)
            case ("compared",):
                return self.now.compared
            case ("diverged",):
                return self.now.divergence is not None
            case ("divergence", part):
                return self._divergence(part)
            case ("here", core) if core in CORE_NAMES:
                return find(self.now, core) is not None
            case ("here", "kvm_hardware"):
                kvm = find(self.now, "kvm")
                return kvm is not None and kvm.ring_zero is RingZero.GUEST_MODE
            case ("here", "kvm_nested"):
                kvm = find(self.now, "kvm")
                return kvm is not None and kvm.nested_paging is True
            case ("here", *parts):
                known = [*CORE_NAMES, "kvm_hardware", "kvm_nested"]
                raise ExpressionError(unknown(".".join(name), ".".join(parts), known))
            case ("new", core, *rest) if rest:
                now, before = self._of(self.now, core, rest), self._of(self.before, core, rest)
                if isinstance(now, int) and isinstance(before, int):
                    return int(now) - int(before)
                raise ExpressionError(f"not a count, so it does not grow: {'.'.join(name)}")
            case (core, *rest) if rest:
                return self._of(self.now, core, rest)
        if len(name) == 1 and name[0] in (*REGISTER_FILE, *STATE_NAMES, *_SIMPLE, "exits"):
            raise ExpressionError(f"whose {name[0]}? Say on which machine: trap.{name[0]}")
        known = [*CORE_NAMES, *_OTHERS, *self.numbers]
        raise ExpressionError(unknown(".".join(name), name[0], known))

    def _of(self, snapshot: SessionSnapshot, core: str, name: list[str]) -> Value:
        core = self.each if core == EACH and self.each else core
        if core not in CORE_NAMES:
            raise ExpressionError(unknown(".".join((core, *name)), core, [*CORE_NAMES, "new", EACH]))
        machine = find(snapshot, core)
        if machine is None:
            raise Absent(f"{core} is not here")
        if name[0] in (*SIZES, "text") and len(name) == 2:
            return self._memory(core, name[0], name[1])
        return machine_value(machine, name)

    def _memory(self, core: str, kind: str, where: str) -> Value:
        if kind == "text":
            return self.peek(core, where, LONGEST_TEXT).split(b"\0")[0].decode("latin-1")
        found = self.peek(core, where, SIZES[kind])
        return Hex(int.from_bytes(found, "little"))

    def _divergence(self, part: str) -> Value:
        divergence = self.now.divergence
        if divergence is None:
            raise ExpressionError("there is no divergence")
        if part == "asm":
            return divergence.asm
        if part == "instruction":
            return divergence.instruction
        if part == "differs":
            return ", ".join(divergence.differs)
        raise ExpressionError(unknown(part, part, ["asm", "instruction", "differs"]))


_OTHERS = (
    "new", EACH, "here", "machines", "lesson", "compared", "diverged", "divergence", "speed",
    "simulation", "true", "false",
)  # fmt: skip


def _speed(kind: str) -> float:
    found = measure.nanoseconds(kind)
    if found is None:
        raise Absent(f"{'trap' if kind in measure.ON_THE_CPU else 'interpreter'} is not here")
    return found


def short(core: str) -> str:
    """ "trap:native" -> "trap" """
    return core.partition(":")[0]


def find(snapshot: SessionSnapshot, core: str) -> MachineSnapshot | None:
    return next((m for m in snapshot.machines if short(m.core) == core), None)


def machine_value(machine: MachineSnapshot, name: list[str]) -> Value:
    """A machine's value by name. Raises ExpressionError."""
    match name:
        case ["exits", "shadow" | "scan"] if machine.core == "kvm":
            return None  # the VMM has none there, and does not count the kernel's as its own
        case ["exits", reason] if reason in REASONS:
            return machine.exits_by_reason.get(reason, 0)
        case ["us", reason] if reason in REASONS:
            return _microseconds(machine, machine.ns_by_reason, reason)
        case ["vmm_us", reason] if reason in REASONS:
            return _microseconds(machine, machine.vmm_ns_by_reason, reason)
        case ["kernel", counter]:
            return _kernel_count(machine, counter)
        case ["last", part]:
            return _event_value(machine, part)
        case [register] if register in machine.registers:
            return Hex(machine.registers[register])
        case [part] if part in REGISTER_FILE and "rax" in machine.registers:
            number, size, shift = REGISTER_FILE[part]
            return Hex(machine.registers[GPR_NAMES[number]] >> shift & (1 << 8 * size) - 1)
        case [flag] if (
            flag.startswith("flag_") and flag[5:].upper() in FLAG_BITS and "rflags" in machine.registers
        ):
            return int(bool(machine.registers["rflags"] & FLAG_BITS[flag[5:].upper()]))
        case [simple] if simple in _SIMPLE:
            return _SIMPLE[simple](machine)
    known = [*_SIMPLE, *machine.registers, "exits", "us", "vmm_us", "kernel", "last"]
    raise ExpressionError(unknown(f"{short(machine.core)}.{'.'.join(name)}", name[0], known))


def _microseconds(machine: MachineSnapshot, spent: Mapping[str, int], reason: str) -> float:
    """Microseconds of one exit for that reason, on average; 0 without one."""
    count = machine.exits_by_reason.get(reason, 0)
    return spent.get(reason, 0) / 1000 / count if count else 0.0


def _kernel_count(machine: MachineSnapshot, counter: str) -> int | None:
    """A counter that the host's kernel keeps for this guest; None where it keeps none at all."""
    if machine.kernel_exits is None:
        return None
    if counter not in machine.kernel_exits:
        raise ExpressionError(unknown(f"kernel.{counter}", counter, list(machine.kernel_exits)))
    return machine.kernel_exits[counter]


def next_address(machine: MachineSnapshot) -> int:
    """Address of the next instruction: RIP, on a foreign machine PC."""
    return machine.registers.get("rip", machine.registers.get("pc", 0))


def _line(machine: MachineSnapshot) -> CodeLine | None:
    return next((line for line in machine.code if line.address == next_address(machine)), None)


def _direct(machine: MachineSnapshot) -> float | None:
    """Percent run directly; None before the first instruction, and where it is not counted."""
    if machine.core == "interpreter":
        return 0.0
    share = direct_share(machine)
    return None if share is None else 100 * share


_SIMPLE: dict[str, Callable[[MachineSnapshot], Value]] = {
    "instructions": lambda m: m.instructions,
    "exits": lambda m: m.exits,
    "ring": lambda m: m.ring,
    "real_ring": lambda m: m.real_ring,
    "console": lambda m: m.console,
    "screen": lambda m: m.screen,
    "stop": lambda m: None if m.stop is None else m.stop.value,
    "status": lambda m: m.exit_status,
    "where": lambda m: m.where,
    "engine": lambda m: m.engine,
    "label": lambda m: m.label,
    "core": lambda m: m.core,
    "accesses": lambda m: m.device_accesses,
    "bridged": lambda m: m.bridged,
    "emulated": lambda m: m.emulated,
    "seconds": lambda m: m.seconds,
    "cpu_seconds": lambda m: m.cpu_seconds,
    "direct": _direct,
    "next": lambda m: line.text if (line := _line(m)) else "",
    "source": lambda m: line.source if (line := _line(m)) else "",
}


def _event_value(machine: MachineSnapshot, part: str) -> Value:
    if not machine.events:
        return None
    event = machine.events[-1]
    values: dict[str, Value] = {
        "reason": event.reason.value, "detail": event.detail, "handled": event.handled,
        "asm": event_text(event), "us": event.ns / 1000, "vmm_us": event.vmm_ns / 1000, "n": event.n,
        "rip": Hex(event.rip), "ring": event.ring,
    }  # fmt: skip
    if part in values:
        return values[part]
    raise ExpressionError(unknown(f"last.{part}", part, list(values)))


def event_text(event: ExitEvent) -> str:
    """The instruction of an exit, "" where it belongs to none."""
    try:
        return text(decode(event.code, event.place.bits), event.rip) if event.code else ""
    except (GuestFault, Truncated):
        return ""


def written(value: Value) -> str:
    """A value as narration says it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Hex):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
    return "none" if value is None else value.strip("\n")


_WORDS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve",
)  # fmt: skip


def formatted(value: Value, form: str) -> str:
    """A value as a paragraph asks for it. form: "" as it is; "d" a register in decimal; "w" a small
    number in words; "exit|exits" a count with its noun."""
    if not form or isinstance(value, bool) or not isinstance(value, int):
        return written(value)
    if form == "d":
        return f"{int(value):,}"
    if form == "w":
        return _WORDS[value] if 0 <= value < len(_WORDS) else f"{int(value):,}"
    one, many = form.split("|")
    return f"{int(value):,} {one if value == 1 else many}"


def unknown(name: str, part: str, known: list[str]) -> str:
    """ "nothing is called ..." with what may have been meant."""
    close = difflib.get_close_matches(part, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"nothing is called {name!r}{hint}"
