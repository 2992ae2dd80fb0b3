"""The monitor of the foreign machine, which completes each instruction. Begin to read at ``step``.

An interpreter's guest never leaves it, so there are no exits here. Unicorn executes most instructions,
branches.py the jumps, and the functions of ``_SYSTEM`` a few that Unicorn does not execute as a 68000
does. Exceptions are delivered through the guest's vector table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cores.pc.stop import Stop
from cores.vmm.trace import Trace

from ..engines.base import Failed
from .branches import jump
from .bus import Bus
from .decode import LONGEST, M68kInstruction, decode
from .delivery import deliver
from .engine import M68kEngine
from .exceptions import AFTER_INSTRUCTION, M68kException, Vector
from .registers import MASK24, MASK32, TRACE, M68kCpu, V

NEVER = 1 << 63


@dataclass(frozen=True, slots=True)
class MonitorState:
    """The monitor's own state, for checkpoints."""

    instructions: int
    deliveries: int
    opcode: int
    stop: Stop | None
    reason: str


class Monitor:
    """Runs one 68000.

    instructions: completed ones. budget: instructions and deliveries after which it stops.
    stop: the reason for the machine's end, None while it can continue; reason: the same in words.
    last, last_pc: the instruction that ``step`` completed. stored: the ranges of RAM it wrote.
    trace: always without events, since an interpreter has no exits.
    """

    exit_status: None = None
    """Always None: this machine has no exit port."""

    def __init__(self, engine: M68kEngine, bus: Bus, cpu: M68kCpu) -> None:
        self.engine, self.bus, self.cpu = engine, bus, cpu
        self.instructions = 0
        self.deliveries = 0
        self.budget = NEVER
        self.stop: Stop | None = None
        self.reason = ""
        self.trace = Trace()
        self.last: M68kInstruction | None = None
        self.last_pc = 0
        self.stored: tuple[tuple[int, int], ...] = ()
        self._opcode = 0

    def step(self) -> None:
        """Complete one more instruction, with the deliveries that come before it, or stop."""
        self.last = None
        while self.stop is None:
            if self.instructions + self.deliveries >= self.budget:
                self.stop = Stop.BUDGET
                return
            at, traced = self.cpu.pc, self.cpu.sr & TRACE
            try:
                insn = self._fetch(at)
                completed = self._execute(insn)
            except M68kException as exception:
                self._enter_handler(exception)
            else:
                if completed:
                    self.last, self.last_pc = insn, at
                    self._completed(traced)
                return

    def _fetch(self, at: int) -> M68kInstruction:
        self._opcode = self.bus.read(at, 2, fetch=True)
        code = self.bus.peek(at, LONGEST)
        insn = decode(code)
        if insn.length > len(code):  # it goes on where no RAM is
            raise M68kException(Vector.BUS_ERROR, at + len(code), fetch=True)
        return insn

    def _execute(self, insn: M68kInstruction) -> bool:
        """Complete ``insn``; False if the host could not. Raises M68kException, with the PC to push."""
        cpu = self.cpu
        if not insn.mnemonic:
            raise M68kException(_NO_INSTRUCTION.get(insn.opcode >> 12, Vector.ILLEGAL_INSTRUCTION))
        if insn.privileged and not cpu.supervisor:
            raise M68kException(Vector.PRIVILEGE_VIOLATION)
        if insn.jumps:
            self.stored = jump(cpu, self.bus, insn)
            return True
        if (system := _SYSTEM.get(insn.mnemonic)) is not None:
            self.stored = ()
            system(self, insn)
            return True
        try:
            done = self.engine.step(cpu, insn.length)
        except M68kException as exception:
            if exception.vector in AFTER_INSTRUCTION:
                cpu.pc += insn.length
            raise
        if isinstance(done, Failed):
            self.stop, self.reason = Stop.ERROR, done.reason
            return False
        self.stored = done.stored
        return True

    def _enter_handler(self, exception: M68kException) -> None:
        self.deliveries += 1
        reason = deliver(self.cpu, self.bus, exception, self._opcode)
        if reason:
            self.stop, self.reason = Stop.SHUTDOWN, reason

    def _completed(self, traced: int) -> None:
        """Count the instruction, and handle a power-off and tracing."""
        self.instructions += 1
        if self.bus.off:
            self.stop = Stop.POWEROFF
        elif traced:  # T was set before it: a trace exception follows it (M68000UM/AD, 6.3.8)
            self.stop = None
            self._enter_handler(M68kException(Vector.TRACE))

    # Instructions that Unicorn does not execute as a 68000 does (M68000PM/AD, 4 and 6)

    def _stop(self, insn: M68kInstruction) -> None:
        """STOP waits for an interrupt. No device of this machine raises one, so that the guest ends."""
        self.cpu.pc += insn.length
        self.cpu.set_sr(int.from_bytes(insn.code[2:], "big"))
        self.stop = Stop.HALTED

    def _reset(self, insn: M68kInstruction) -> None:
        """RESET resets the devices, which have no state to reset."""
        self.cpu.pc += insn.length

    def _rte(self, insn: M68kInstruction) -> None:
        self._return(whole_sr=True)

    def _rtr(self, insn: M68kInstruction) -> None:
        self._return(whole_sr=False)

    def _return(self, *, whole_sr: bool) -> None:
        cpu, bus = self.cpu, self.bus
        stack = cpu.a[7]
        sr, pc = bus.read(stack, 2), bus.read(stack + 2, 4)
        cpu.a[7] = (stack + 6) & MASK32
        cpu.pc = pc & MASK24
        cpu.set_sr(sr if whole_sr else (cpu.sr & ~0x1F) | (sr & 0x1F))

    def _trap(self, insn: M68kInstruction) -> None:
        self.cpu.pc += insn.length
        raise M68kException(Vector.TRAP + (insn.opcode & 0xF))

    def _trapv(self, insn: M68kInstruction) -> None:
        self.cpu.pc += insn.length
        if self.cpu.sr & V:
            raise M68kException(Vector.TRAPV)

    def _illegal(self, insn: M68kInstruction) -> None:
        raise M68kException(Vector.ILLEGAL_INSTRUCTION)

    # Checkpoints (cores/time_travel/history.py)

    def save(self) -> MonitorState:
        return MonitorState(self.instructions, self.deliveries, self._opcode, self.stop, self.reason)

    def restore(self, state: MonitorState) -> None:
        self.instructions, self.deliveries = state.instructions, state.deliveries
        self._opcode, self.stop, self.reason = state.opcode, state.stop, state.reason
        self.engine.memory_changed()


_NO_INSTRUCTION = {0xA: Vector.LINE_A, 0xF: Vector.LINE_F}
"""Vectors of undefined opcodes by their first four bits; Motorola reserves these two for emulators."""

_SYSTEM: dict[str, Callable[[Monitor, M68kInstruction], None]] = {
    "stop": Monitor._stop, "reset": Monitor._reset, "rte": Monitor._rte, "rtr": Monitor._rtr,
    "trap": Monitor._trap, "trapv": Monitor._trapv, "illegal": Monitor._illegal,
}  # fmt: skip
