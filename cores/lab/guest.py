"""The guest as a student's VMM has it: entered at ring 3, and left for a reason (docs/lab.md).

All state that ring 3 cannot hold, from IF to CR3, is the student's to keep. The engine is the portable
trap engine: the same on every computer, and deterministic, since it counts instructions.
"""

from __future__ import annotations

from cores.engines.base import (
    KERNEL_SPACE,
    USER_SPACE,
    BudgetSpent,
    Exit,
    Failed,
    Fault,
    Intercept,
    Stepped,
    SystemCall,
)
from cores.lab.engine import LabEngine
from cores.lab.errors import LabError
from cores.lab.journal import Journal
from cores.lab.log import Event
from cores.lab.parts import Memory, Ports, Registers, check_numbers, check_operand, initial
from cores.lab.stop import FAULT, PATCHED, SYSCALL, TIMER, Decoded, Operand, Stop, decoded
from cores.pc.cpuid import cpuid
from cores.pc.devices.board import NEVER, Board
from cores.pc.physical_memory import HOLE, PhysicalMemory
from cores.pc.ram import PAGE
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.encoding import LONGEST
from cores.x86.isa.instruction import Instruction, Sensitivity
from cores.x86.isa.sensitive import TABLE
from cores.x86.mmu.paging import Mmu
from cores.x86.mode import code_bits
from cores.x86.registers import MASK32, MASK64, USER_FLAGS, Flag, Vector
from cores.x86.virtual_cpu import VirtualCpu

CPUID_FAULTS = frozenset({"cpuid"})
"""The lab's CPU has CPUID faulting: ring 3 may not execute it (SDM vol. 4, MISC_FEATURES_ENABLES)."""

SILENT = frozenset(
    form.split()[0]
    for entry in TABLE
    if entry.sensitivity is Sensitivity.SILENT
    for form in entry.forms
)
"""Mnemonics that ``Guest.patch`` takes."""

NAMES = (
    "enter", "running", "registers", "memory", "ports", "read", "write", "patch", "cpuid", "time",
    "halt", "shutdown", "interrupt_pending", "acknowledge", "sleep", "ring", "map", "unmap", "initial",
    "bits",
)  # fmt: skip
"""What a student's VMM may use of a ``Guest``."""


class Guest:
    """One guest. registers, memory, ports: see these classes. bits: 64 or 32, the width of its code.
    initial: what the privileged registers hold when the guest begins, for the VMM's own copies.
    ring: 0 or 3, the guest's ring as the VMM sees it: each has an address space of its own.
    time: virtual time in microseconds; each instruction takes one."""

    def __init__(
        self,
        engine: LabEngine,
        memory: PhysicalMemory,
        cpu: VirtualCpu,
        board: Board,
        *,
        ticks: int,
        exits: int,
    ) -> None:
        """ticks, exits: after so much virtual time, or so many exits, the guest counts as endless."""
        self.registers = Registers(cpu)
        self.memory = Memory(memory)
        self.ports = Ports(board)
        self.bits = code_bits(cpu)
        self.initial = initial(cpu)
        self.time = 0
        self.over = ""
        """Why the run has ended, "" while it goes on: "halted", "shutdown"."""
        self._engine, self._memory, self._cpu, self._board = engine, memory, cpu, board
        self._mmu = Mmu(memory, cpu)  # asked for nothing: page faults are corrected by registers alone
        self._most, self._most_exits = ticks, exits
        self._log = Journal(self.memory, self.ports)
        self._ring = 0
        self.stop: Stop | None = None  # the last one
        self._stop: Stop | None = None
        self._told = False
        board.clock = lambda: self.time
        engine.take(CPUID_FAULTS)
        if self.bits == 64:
            self._map_ram(0x10000)
        else:
            self._map_ram(0)

    @property
    def events(self) -> list[Event]:
        """The log of its exits; the first of them."""
        return self._log.events

    @property
    def exits(self) -> int:
        """How often it has been left."""
        return self._log.exits

    # Entering

    @property
    def running(self) -> bool:
        """Whether it can be entered: it has neither ended its machine nor been ended."""
        return not self.over and self._board.stop is None

    def enter(self, limit: int | None = None) -> Stop:
        """Let the CPU execute the guest until it comes back; says why it did. limit: come back with
        the kind "timer" after so many instructions at the latest."""
        if not self.running:
            raise LabError("the guest has ended: enter it only while guest.running")
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise LabError(f"guest.enter: {limit!r:.40} is no number of instructions")
        self._close()
        end = NEVER if limit is None else self.time + limit
        cpu, board, engine = self._cpu, self._board, self._engine
        engine.space = USER_SPACE if self._ring else KERNEL_SPACE
        while True:
            if self.time >= board.deadline:
                board.advance(self.time)
            if not board.interrupt_pending:
                self._told = False
            elif not self._told:
                self._told = True
                return self._left(TIMER, -1, None, None)
            if self.time >= end:
                return self._left(TIMER, -1, None, None)
            if self.time >= self._most:
                raise LabError(
                    f"the guest has run for {self.time:,} ticks and does not end; under our VMM it does"
                )
            exit = engine.run(cpu, min(board.deadline, self._most, end) - self.time)
            self.time += engine.executed or 0
            stop = self._stopped(exit)
            if stop is not None:
                return stop

    def _stopped(self, exit: Exit) -> Stop | None:
        """The student's view of an engine's exit; None: the guest is to be entered again."""
        match exit:
            case Fault(vector, error, address):
                if vector == Vector.PF and (insn := self._instruction()) is not None:
                    exit = self._engine.corrected(exit, insn, self._cpu, self._mmu)
                    address = exit.address
                return self._left(FAULT, vector, error, address)
            case SystemCall():
                if (insn := self._instruction()) is not None and insn.mnemonic == "int":
                    return self._left(FAULT, Vector.GP, 0x80 * 8 + 2, None)  # only SYSCALL is one here
                return self._left(SYSCALL, -1, None, None)
            case Intercept():
                insn = self._instruction()
                if insn is not None and insn.mnemonic in CPUID_FAULTS:
                    return self._left(FAULT, Vector.GP, 0, None)
                if insn is not None and insn.mnemonic in self._engine.taken:
                    return self._left(PATCHED, -1, None, None)
                exit = self._engine.step(self._cpu)  # Unicorn's run would do it wrongly
                if isinstance(exit, Stepped):
                    self.time += 1
                    return None
                return self._stopped(exit)
            case BudgetSpent():
                return None
            case Failed(reason):
                raise LabError(reason)
            case _:
                return None

    def _left(self, kind: str, vector: int, error: int | None, address: int | None) -> Stop:
        cpu = self._cpu
        insn = None if kind == TIMER else self._instruction()
        if self.exits >= self._most_exits:
            raise LabError(
                f"the guest has left {self.exits:,} times and does not end; under our VMM it does"
            )
        seen = None if insn is None else decoded(insn, cpu)
        stop = Stop(self.exits + 1, kind, vector, error, address, cpu.rip, seen)
        asked = (
            vector == Vector.GP and insn is not None and insn.sensitivity is not Sensitivity.ORDINARY
        )
        own = kind == FAULT and vector != Vector.PF and not asked
        self._log.left(stop, self.time, self._state(), own=own)
        self.stop = self._stop = stop
        return stop

    def _close(self) -> None:
        """The VMM's work at the last exit is done: log it, and let its time pass."""
        if self._stop is not None:
            self._settle()
            self._log.entered(self._state())

    def _settle(self) -> None:
        """Where the VMM has completed the instruction, or entered a handler, that takes one tick."""
        if self._stop is not None and self._cpu.rip != self._stop.rip:
            self.time += 1
        self._stop = None

    def _state(self) -> tuple[int, ...]:
        cpu = self._cpu
        return (*cpu.gpr, cpu.rip, cpu.rflags & USER_FLAGS | Flag.FIXED)

    def _instruction(self) -> Instruction | None:
        """The instruction at RIP; None where none is mapped."""
        code = b""
        rip = self._cpu.rip
        space = USER_SPACE if self._ring else KERNEL_SPACE
        while len(code) < LONGEST:
            at = rip + len(code) & MASK64
            physical = self._engine.translate(space, at)
            if physical is None:
                break
            code += self._memory.read(physical, min(LONGEST - len(code), PAGE - at % PAGE))
        try:
            return decode(code, self.bits)
        except (GuestFault, Truncated):
            return None

    # What the VMM may ask for

    @property
    def ring(self) -> int:
        return self._ring

    @ring.setter
    def ring(self, ring: int) -> None:
        if ring not in (0, 3):
            raise LabError(f"the guest's ring is 0 or 3, not {ring!r:.20}")
        self._log.changes += ring != self._ring
        self._ring = ring

    def patch(self, *mnemonics: str) -> None:
        """Have these instructions, which ring 3 executes without a trap, replaced by one that traps:
        the guest is left at each with the kind "patched". "mov", "push" and "pop": only those with a
        segment register."""
        for name in mnemonics:
            if not isinstance(name, str) or name not in SILENT:
                raise LabError(
                    f"guest.patch: {name!r:.40} is none that ring 3 executes silently; there are"
                    f" {', '.join(sorted(SILENT - CPUID_FAULTS))}"
                )
        self._log.changes += 1
        self._engine.take(self._engine.taken | frozenset(mnemonics))

    def map(
        self, address: int, physical: int, *, writable: bool = True, executable: bool = True,
        user: bool = True,
    ) -> None:  # fmt: skip
        """Map one page of 4 KiB: the guest's linear address leads to the physical one. user: for both
        rings, else for ring 0 alone."""
        check_numbers("guest.map", address=address, physical=physical)
        if address % PAGE or physical % PAGE:
            raise LabError(f"guest.map: {address:#x} or {physical:#x} is not the beginning of a page")
        if not self._memory.is_ram(physical, PAGE):
            raise LabError(
                f"guest.map: there is no RAM at {physical:#x}; leave the page unmapped, and do its"
                " accesses at the page fault"
            )
        if not 0 <= address < 1 << 47:
            raise LabError(f"guest.map: the lab's guests have no page at {address:#x}")
        self._log.changes += 1
        for space in (KERNEL_SPACE, USER_SPACE) if user else (KERNEL_SPACE,):
            self._engine.map(space, address, physical, PAGE, writable=writable, executable=executable)
        if not user:
            self._engine.unmap(USER_SPACE, address, PAGE)

    def unmap(self, address: int | None = None) -> None:
        """Remove a page from both address spaces; without an address all of them."""
        self._log.changes += 1
        if address is not None:
            check_numbers("guest.unmap", address=address)
        if address is None:
            self._engine.drop_all()
        elif 0 <= address < 1 << 47:
            for space in (KERNEL_SPACE, USER_SPACE):
                self._engine.unmap(space, address & -PAGE, PAGE)

    def read(self, operand: Operand) -> int:
        """The value of an operand: a register's, an immediate, or memory at its physical address."""
        check_operand("read", operand)
        match operand.kind:
            case "register":
                return self.registers[operand.name]
            case "immediate":
                return operand.value
        return self.memory.load(operand.address, operand.size)

    def write(self, operand: Operand, value: int) -> None:
        """Set a register, or memory at its physical address."""
        check_operand("write", operand)
        if operand.kind == "register":
            self.registers[operand.name] = value
        elif operand.kind == "memory":
            self.memory.store(operand.address, operand.size, value)
        else:
            insn = self._instruction()
            swapped = ": IN's operands are (value, port)" if insn and insn.mnemonic == "in" else ""
            raise LabError(f"an immediate cannot be written{swapped}")

    def cpuid(self, leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
        """What CPUID is to give the guest: (EAX, EBX, ECX, EDX)."""
        check_numbers("guest.cpuid", leaf=leaf, subleaf=subleaf)
        leaf, subleaf = leaf & MASK32, subleaf & MASK32
        self._log.asked(leaf, subleaf)
        return cpuid(leaf, subleaf)

    @property
    def interrupt_pending(self) -> bool:
        """Whether a device wants to interrupt the CPU now."""
        self._board.advance(self.time)
        return self._board.interrupt_pending

    def acknowledge(self) -> int:
        """Take the interrupt that is pending; gives its vector."""
        if not self.interrupt_pending:
            raise LabError("guest.acknowledge: no interrupt is pending")
        self._told = False
        self._settle_early()
        self._log.interrupted(self.time, self._state())
        return self._board.acknowledge()

    def sleep(self) -> None:
        """HLT with IF = 1: let time pass until a device interrupts. Where none ever will, the machine
        has halted."""
        self._settle_early()
        board = self._board
        while not board.interrupt_pending:
            event = board.next_event()
            if event is None:
                self.over = "halted"
                return
            self.time = max(self.time, event)
            if self.time >= self._most:
                raise LabError(f"the guest sleeps {self.time:,} ticks long; under our VMM it does not")
            board.advance(self.time)

    def halt(self) -> None:
        """HLT with IF = 0: the CPU sleeps for ever, and the run ends."""
        self.over = "halted"

    def shutdown(self) -> None:
        """A triple fault: the run ends."""
        self.over = "shutdown"

    # Ending

    def finish(self) -> None:
        """The run is over, and the guest is not entered after the last exit."""
        self._settle()
        self._log.ended()

    def _settle_early(self) -> None:
        """Let the tick of the instruction pass now that the VMM has done, if it has."""
        if self._stop is not None and self._cpu.rip != self._stop.rip:
            self.time += 1
            self._stop = Stop(
                self._stop.number, self._stop.kind, self._stop.vector, self._stop.error,
                self._stop.address, self._cpu.rip, self._stop.instruction,
            )  # fmt: skip

    def _map_ram(self, first: int) -> None:
        """What the guest's first page tables map, for both rings."""
        for space in (KERNEL_SPACE, USER_SPACE):
            for start, stop in ((first, HOLE.start), (HOLE.stop, self._memory.size)):
                self._engine.map(space, start, start, stop - start, writable=True, executable=True)


__all__ = ["Decoded", "Guest", "LabError", "Operand", "Stop"]
