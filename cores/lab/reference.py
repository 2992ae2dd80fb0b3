"""The same run under our VMM: each exit with the registers before and after, for comparison."""

from __future__ import annotations

import contextlib
from functools import cache

from cores.engines.portable.engine import PortableTrapEngine
from cores.lab.cases import Case
from cores.lab.log import RIP, Event, Run
from cores.machine.machine import Machine
from cores.vmm.delivery import Delivery
from cores.vmm.trace import UNCOUNTED, ExitEvent
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode, text
from cores.x86.isa.instruction import Immediate, Instruction, Register, Sensitivity
from cores.x86.registers import RAX, RDX, USER_FLAGS, Flag

MOST = 2_000_000
"""Ticks after which a guest of ours would be endless."""


class _Watched(Delivery):
    """Delivery through the guest's IDT, with a log."""

    def __init__(self, machine: Machine, log: _Log) -> None:
        super().__init__(machine.vmm)
        self._log = log

    def reflect(self, fault: GuestFault) -> None:
        self._log.begin()
        super().reflect(fault)
        self._log.end()

    def interrupt(self) -> None:
        self._log.begin()
        super().interrupt()
        self._log.end()


class _Log:
    """Makes events of a machine's exits."""

    def __init__(self, machine: Machine) -> None:
        self.events: list[Event] = []
        self._machine = machine
        self._before: tuple[int, ...] = ()
        self._time = 0
        self._wrote = 0
        self._seen = 0

    def begin(self) -> None:
        """Something of which the guest may be left begins."""
        machine = self._machine
        self._before, self._time = _state(machine), machine.vmm.ticks
        assert machine.memory.writes is not None
        machine.memory.writes.clear()

    def end(self) -> None:
        """It is done: an event, if the guest was left."""
        machine = self._machine
        machine.vmm.trace.close()
        exits = [e for e in machine.vmm.trace.take() if e.reason not in UNCOUNTED]
        if not exits:
            self.begin()
            return
        exit, memory = exits[-1], machine.memory
        insn = _instruction(exit)
        asm, mnemonic = (text(insn, exit.rip), insn.mnemonic) if insn else ("", "")
        writes = [(at, memory.read(at, n).hex()) for at, n in memory.writes or () if n <= 64]
        after = _state(machine)
        self.events.append(Event(
            len(self.events) + 1, self._time, exit.rip, asm, str(exit.reason), self._before, mnemonic,
            repeat=bool(insn and insn.repeat), after=after, writes=writes,
            silent=insn is not None and insn.sensitivity is Sensitivity.SILENT,
            outs=_outs(insn, self._before, after),
        ))  # fmt: skip
        self.begin()


def _instruction(exit: ExitEvent) -> Instruction | None:
    if exit.code:
        with contextlib.suppress(GuestFault, Truncated):
            return decode(exit.code, exit.place.bits)
    return None


def _outs(
    insn: Instruction | None, before: tuple[int, ...], after: tuple[int, ...]
) -> list[tuple[int, int, int]]:
    """What an OUT has written, as ``Event.outs``: the registers before it say so. Nothing where it was
    not completed."""
    if insn is None or insn.mnemonic != "out" or after[RIP] != before[RIP] + insn.length:
        return []
    port, value = insn.operands
    assert isinstance(value, Register)
    number = port.value & 0xFF if isinstance(port, Immediate) else before[RDX] & 0xFFFF
    return [(number, value.size, before[RAX] & (1 << 8 * value.size) - 1)]


def _state(machine: Machine) -> tuple[int, ...]:
    cpu = machine.cpu
    return (*cpu.gpr, cpu.rip, cpu.rflags & USER_FLAGS | Flag.FIXED)


@cache
def reference(case: Case) -> Run:
    """Run a case under our VMM, on the same engine, one instruction at a time."""
    program = case.program()
    with contextlib.ExitStack() as last:
        machine = Machine(
            program, PortableTrapEngine(), ram=program.ram, input=case.input,
            disks=last.enter_context(case.disks()),
        )  # fmt: skip
        last.callback(machine.close)
        vmm = machine.vmm
        machine.memory.writes = []
        log = _Log(machine)
        vmm.delivery = _Watched(machine, log)
        log.begin()
        while machine.stop is None and vmm.ticks < MOST:
            machine.step()
            log.end()
        return Run(
            str(vmm.stop or "limit"), vmm.exit_status, vmm.reason, 0, machine.console(),
            machine.board.screen(), _state(machine), log.events, len(log.events), vmm.ticks,
        )  # fmt: skip
