"""Snapshots: a machine's state at one moment, as a frozen value for the screen."""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from cores.engines.base import RingZero
from cores.machine.machine import Machine
from cores.machine.report import CodeLine, MachineSnapshot
from cores.pc.stop import Stop
from cores.programs import sources
from cores.programs.program import Program
from cores.vmm.trace import UNCOUNTED, Site, Trace
from cores.vmm.vmm import UNKNOWN
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode, text
from cores.x86.isa.instruction import Instruction, MemoryOperand, Reason, Register, Sensitivity
from cores.x86.mmu.paging import PAGE, walk
from cores.x86.mmu.segmentation import code_address
from cores.x86.mode import code_bits, mode
from cores.x86.registers import GPR_NAMES, REGISTER_FILE, STATE_NAMES

LINES_BEFORE, LINES_AFTER = 12, 28
EVENTS = 200
MOST_MARKS = 2048
_KINDS = {
    Sensitivity.ORDINARY: "direct",
    Sensitivity.PRIVILEGED: "privileged",
    Sensitivity.SILENT: "silent",
    Sensitivity.ABSENT: "absent",
}
_LAID_DOWN = re.compile(r"""(?:[\w.$]+:\s*)*(?P<what>\.[a-z]\w*(?:[^#"']|"(?:\\.|[^"\\])*"|'.'?)*)""")
"""A source line of data: its labels are followed by a directive, not a mnemonic."""
_MOST_DATA = 4096
_ONLY_WRITE = frozenset({"mov", "lea", "movzx", "movsx", "movsxd", "movabs", "pop", "in"})


class Marks:
    """The instruction numbers of all exits of a session, for a line of a few hundred cells.

    Updated from the traces' new events, and thinned out by powers of two, so that a million exits cost
    no more than a thousand. taken: in no order; exits after the present instruction, to which the user
    has gone back, remain in it. counts: the instructions that each of them stands for.
    """

    def __init__(self) -> None:
        self.taken: tuple[int, ...] = ()
        self.counts: tuple[int, ...] = ()
        self._latest = -1
        self._width = 1
        self._found: dict[int, int] = {}
        self._seen: dict[int, int] = {}

    def update(self, traces: Iterable[Trace]) -> None:
        """Add the events that the machines' traces have gained since the last call."""
        news = False
        for number, trace in enumerate(traces):
            end = trace.dropped + len(trace.events)
            first = max(0, min(self._seen.get(number, 0), end) - trace.dropped)
            self._seen[number] = end
            for event in trace.events[first:]:
                if event.n is not None and event.n > self._latest:
                    self._latest, news = event.n, True
                    at = event.n // self._width
                    self._found[at] = self._found.get(at, 0) + 1
            while len(self._found) > MOST_MARKS:
                self._width *= 2
                found, self._found = self._found, {}
                for at, count in found.items():
                    self._found[at // 2] = self._found.get(at // 2, 0) + count
        if news:
            self._publish()

    def _publish(self) -> None:
        self.taken = tuple(at * self._width for at in self._found)
        self.counts = tuple(self._found.values())

    def forget_after(self, instruction: int) -> None:
        """Remove exits after ``instruction``: the guest has been edited, so that they may not recur."""
        self._found = {at: n for at, n in self._found.items() if at * self._width <= instruction}
        self._latest = min(self._latest, instruction)
        self._publish()


class Sites:
    """The exits of one machine by address, counted from its trace's new events: nothing of this is on
    the way of an exit. by_address: address -> its ``Site``."""

    def __init__(self) -> None:
        self._counts: dict[int, list[int]] = {}
        self._seen = self._rewinds = 0

    def update(self, trace: Trace) -> dict[int, Site]:
        """Add the events since the last call; after a rewind all are counted anew."""
        events, rewinds = trace.events, trace.rewinds
        end = trace.dropped + len(events)
        if rewinds != self._rewinds or end < self._seen:
            self._counts.clear()
            self._seen, self._rewinds = 0, rewinds
        for event in events[max(0, self._seen - trace.dropped) :]:
            count = self._counts.get(event.rip)
            if count is None:
                count = self._counts[event.rip] = [0, 0, 0, 0]
            if event.reason in UNCOUNTED:
                count[2] += 1
            else:
                count[event.reason is Reason.IRQ] += 1
                count[3] += event.ns
        self._seen = end
        return {at: Site(*count) for at, count in self._counts.items()}


def take(
    machine: Machine, before: tuple[int, ...], sites: dict[int, Site] | None = None
) -> MachineSnapshot:
    """Take a snapshot of a machine, which must not be running. before: the registers
    (``VirtualCpu.state``) that it had when the user stopped last. sites: see ``Sites``."""
    vmm, traits, board = machine.vmm, machine.engine.traits, machine.board
    now = machine.cpu.state()
    old = {
        name: was
        for name, was, value in zip(STATE_NAMES, before, now, strict=True)
        if was != value and name != "rip"
    }
    code = code_around(machine, machine.cpu.rip)
    trace = vmm.trace
    next_insn = _at(machine, machine.cpu.rip)
    return MachineSnapshot(
        core=traits.core, engine=traits.engine, label=traits.label, where=machine.engine.where(),
        registers=dict(zip(STATE_NAMES, now, strict=True)), changed=frozenset(old), before=old,
        ring=machine.cpu.cpl, real_ring=_real_ring(machine),
        instructions=vmm.counted, exits=trace.exits,
        exits_by_reason={reason.value: n for reason, n in trace.by_reason.items() if n},
        device_accesses=board.accesses, bridged=trace.bridged, console=machine.console(),
        screen=board.screen(), stop=vmm.stop, reason=vmm.reason, exit_status=vmm.exit_status,
        code=code, events=tuple(trace.events[-EVENTS:]),
        notes=machine.notes(),
        reads=_reads(next_insn) if next_insn else frozenset(),
        ns_by_reason={reason.value: n for reason, n in trace.ns_by_reason.items()},
        vmm_ns_by_reason={reason.value: n for reason, n in trace.vmm_ns_by_reason.items()},
        emulated=vmm.emulated, delivered=vmm.delivered,
        ring_zero=traits.ring_zero, nested_paging=traits.nested_paging,
        kernel_exits=machine.engine.kernel_exits(),
        awaits_key=machine.awaits_key, takes_keys=machine.takes_keys,
        seconds=machine.seconds, cpu_seconds=machine.engine.cpu_seconds(),
        done=_done(machine), sites=sites or {},
        tables={"gdtr": machine.cpu.gdtr.base, "idtr": machine.cpu.idtr.base},
        real=machine.engine.real_registers(), user_pages=_user_pages(machine, code),
        mode=mode(machine.cpu), cursor=board.cursor,
    )  # fmt: skip


def _done(machine: Machine) -> CodeLine | None:
    """The instruction that ``Vmm.step`` completed last; the one that ended the machine counts."""
    vmm = machine.vmm
    ended = vmm.stop in (Stop.EXIT, Stop.POWEROFF, Stop.HALTED)
    if vmm.last_rip == UNKNOWN or (vmm.last is None and not ended):
        return None
    insn = vmm.last or _at(machine, vmm.last_rip)
    return None if insn is None else _code_line(machine, insn, vmm.last_rip)


def _user_pages(machine: Machine, code: tuple[CodeLine, ...]) -> frozenset[int]:
    """Pages of the code shown that the guest's tables give to ring 3; the page of the next instruction
    by the present ring, since a kernel may well execute such a page."""
    if machine.engine.traits.ring_zero is not RingZero.INTERPRETED:
        return frozenset()
    here = machine.cpu.rip // PAGE
    pages = {here} if machine.cpu.cpl == 3 else set()
    for page in {line.address // PAGE for line in code} - {here}:
        with contextlib.suppress(GuestFault):
            walk(machine.memory, machine.cpu, page * PAGE, user=True, mark=False)
            pages.add(page)
    return frozenset(pages)


def listing(machine: Machine) -> dict[int, CodeLine]:
    """The instruction or the data at each address of a source line, as memory is now; of a program with
    debug information as its file has it, since its kernel may not have mapped it yet."""
    program = machine.program
    if program.image:
        return dict(_filed(program))
    return {at: _line(machine, at) for at in machine.program.lines if _size(machine, at)}


def _filed(program: Program) -> Iterator[tuple[int, CodeLine]]:
    bits = 64 if program.image[4] == 2 else 32
    for at, number in program.lines.items():
        if not number:
            continue
        with contextlib.suppress(GuestFault, Truncated):
            insn = decode(sources.code_at(program, at), bits)
            source, kind = source_line(program, at), _KINDS[insn.sensitivity]
            yield at, CodeLine(at, insn.code, text(insn, at), source, kind, 0)


def _real_ring(machine: Machine) -> int | None:
    """The ring of this CPU, or of its guest mode, that executes the guest now; None for software."""
    traits, ring = machine.engine.traits, machine.cpu.cpl
    if not traits.native:
        return None
    match traits.ring_zero:
        case RingZero.DEPRIVILEGED:
            return 3
        case RingZero.GUEST_MODE:
            return ring
        case RingZero.INTERPRETED:
            return 3 if ring == 3 else None
        case RingZero.SIMULATED | RingZero.UNKNOWN:
            return None


def _at(machine: Machine, rip: int) -> Instruction | None:
    cpu = machine.cpu
    try:
        return decode(machine.vmm.mmu.peek(code_address(cpu, rip)), code_bits(cpu))
    except (GuestFault, Truncated):
        return None


def code_around(machine: Machine, address: int) -> tuple[CodeLine, ...]:
    """Disassembly around an instruction. Data of the source are shown as the source's directives."""
    start = _start(machine, address)
    lines: list[CodeLine] = []
    at, after = start, 0
    end = machine.program.end
    within = address < end or (address == end and machine.vmm.stop is not None)
    while after < LINES_AFTER and not (within and end <= at):  # nothing after the program's end
        size = _size(machine, at)
        if not size:
            break
        lines.append(_line(machine, at))
        after += at >= address
        at += size
    here = next((i for i, line in enumerate(lines) if line.address == address), 0)
    return tuple(lines[max(0, here - LINES_BEFORE) :])


def _start(machine: Machine, rip: int) -> int:
    """An address before RIP from which decoding arrives at RIP: a source line's, if there is one."""
    program = machine.program
    starts = program.starts
    near = starts[bisect_left(starts, rip - 96) : bisect_left(starts, rip)]
    anchors = sorted({*near, *(a for a in program.symbols.values() if rip - 96 <= a < rip)})
    for anchor in anchors or range(max(program.start, rip - 48), rip):
        if _meets(machine, anchor, rip):
            return anchor
    return rip


def _meets(machine: Machine, at: int, rip: int) -> bool:
    while at < rip:
        size = _size(machine, at)
        if not size:
            return False
        at += size
    return at == rip


def _data(machine: Machine, at: int) -> int:
    """The number of data bytes that a source line defines at ``at``. 0: there is no such line, or RIP
    is within them, and they are then shown as instructions."""
    lines = machine.program.lines
    if at not in lines or not _LAID_DOWN.match(source_line(machine.program, at)):
        return 0
    end = next((to for to in range(at + 1, at + _MOST_DATA) if to in lines), machine.program.end)
    return 0 if at <= machine.cpu.rip < end else min(end - at, _MOST_DATA)


def _size(machine: Machine, at: int) -> int:
    """The number of bytes shown in the line for this address; 0 where nothing can be read."""
    insn = _at(machine, at)
    return _data(machine, at) or (insn.length if insn else 0)


def _line(machine: Machine, at: int) -> CodeLine:
    source = source_line(machine.program, at)
    laid = _LAID_DOWN.match(source)
    if laid is not None and (size := _data(machine, at)):
        code = machine.vmm.mmu.peek(code_address(machine.cpu, at))[:size]
        exits = machine.vmm.trace.by_address[at]
        return CodeLine(at, code, laid["what"].strip(), source, "data", exits)
    insn = _at(machine, at)
    assert insn is not None  # _size has read it
    return _code_line(machine, insn, at)


def _code_line(machine: Machine, insn: Instruction, at: int) -> CodeLine:
    source, kind = source_line(machine.program, at), _KINDS[insn.sensitivity]
    return CodeLine(at, insn.code, text(insn, at), source, kind, machine.vmm.trace.by_address[at])


def source_line(program: Program, address: int) -> str:
    """The source line for an address, "" when there is none."""
    number = program.line_of(address)
    return program.source[number - 1].strip() if number and number <= len(program.source) else ""


def _reads(insn: Instruction) -> frozenset[str]:
    """The general registers that an instruction reads through its explicit operands."""
    names: set[str] = set()
    for position, operand in enumerate(insn.operands):
        match operand:
            case MemoryOperand(base=base, index=index):
                names |= {GPR_NAMES[number] for number in (base, index) if number is not None}
            case Register(name) if position or insn.mnemonic not in _ONLY_WRITE:
                names.add(_whole(name))
            case _:
                pass
    return frozenset(names)


def _whole(name: str) -> str:
    """The 64-bit register of which ``name`` is a part."""
    return GPR_NAMES[REGISTER_FILE[name][0]] if name in REGISTER_FILE else name
