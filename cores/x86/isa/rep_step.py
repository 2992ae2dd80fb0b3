"""Single-stepping of REP instructions by TF: one iteration at a time.

With TF set a CPU traps after each iteration (SDM vol. 3, 17.3.1.4), with RIP still at the instruction
except after the last one. An engine completes all iterations, so RCX is set to 1 for the time of a
step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cores.x86.isa.instruction import Instruction
from cores.x86.registers import RCX, Flag

if TYPE_CHECKING:
    from cores.x86.virtual_cpu import VirtualCpu


def iterations_left(insn: Instruction, cpu: VirtualCpu) -> int:
    """Iterations that a REP has left: RCX, or by its address size ECX or CX (SDM vol. 2, REP); 1
    without REP."""
    return cpu.gpr[RCX] & ((1 << 8 * insn.address_size) - 1) if insn.repeat else 1


@dataclass(slots=True)
class Repeated:
    """Result of ``one_iteration``. goes_on: another iteration follows."""

    goes_on: bool = False


@contextmanager
def one_iteration(insn: Instruction, cpu: VirtualCpu) -> Iterator[Repeated]:
    """Limits the execution of ``insn`` inside the block to one iteration, if it is a REP. Afterwards
    RCX is the number of iterations left, and RIP is at the instruction if there is one."""
    repeated = Repeated()
    mask = (1 << 8 * insn.address_size) - 1
    start, before = cpu.rip, cpu.gpr[RCX]
    if iterations_left(insn, cpu) < 2:
        yield repeated
        return
    cpu.gpr[RCX] = 1
    try:
        yield repeated
    except BaseException:
        cpu.gpr[RCX] = before
        raise
    cpu.gpr[RCX] = (before & mask) - 1
    if insn.address_size == 2:  # CX: the rest of ECX is kept
        cpu.gpr[RCX] |= before & ~mask
    ended = insn.mnemonic in ("cmps", "scas") and bool(cpu.rflags & Flag.ZF) != (insn.repeat == "rep")
    repeated.goes_on = not ended
    if repeated.goes_on:
        cpu.rip = start
