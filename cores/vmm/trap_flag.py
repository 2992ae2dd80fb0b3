"""The guest's trap flag (TF): a #DB after each instruction (SDM vol. 3, 17.3.1.4).

On the trap cores the VMM uses the real TF for its own steps. So an instruction runs with the guest's TF
cleared, and the VMM delivers the #DB; instructions that read or change flags are emulated.
"""

from __future__ import annotations

from collections.abc import Callable

from cores.vmm.completion import Completion
from cores.vmm.delivery import Delivery
from cores.vmm.state import GuestContext
from cores.x86.faults import GuestFault
from cores.x86.isa.instruction import Instruction, Reason
from cores.x86.isa.rep_step import one_iteration
from cores.x86.registers import Flag, Vector

SHOW_TF = frozenset((Reason.FLAGS, Reason.IRET, Reason.INT, Reason.SYSCALL, Reason.SYSRET))
SINGLE_STEP = 1 << 14
"""DR6.BS (SDM vol. 3, 17.2.3)."""


def single_step(
    guest: GuestContext,
    completion: Completion,
    delivery: Delivery,
    insn: Instruction,
    execute: Callable[[Instruction], None],
    completed: Callable[[Instruction], None],
) -> None:
    """Complete one instruction with TF set, and deliver the #DB that follows it, if one does.

    execute, completed: the VMM's methods for an instruction without TF. The caller counts the
    instruction. Raises GuestFault between two iterations of a REP, and for the guest's own faults."""
    cpu = guest.cpu
    if insn.reason in SHOW_TF:
        guest.trace.left()
        completion.emulate(insn, "it shows or changes TF")
    else:
        cpu.rflags &= ~Flag.TF
        try:
            with one_iteration(insn, cpu) as repeated:
                execute(insn)
        finally:
            cpu.rflags |= Flag.TF
        if repeated.goes_on:
            cpu.debug[6] |= SINGLE_STEP
            cpu.rflags |= Flag.RF  # what a trap between two iterations pushes (17.3.1.1)
            raise GuestFault(Vector.DB)
    # Loads of SS block #DB and interrupts for one instruction; STI blocks interrupts alone (6.8.3).
    held_back = cpu.interrupt_shadow and insn.mnemonic != "sti"
    if insn.reason in (Reason.INT, Reason.SYSCALL) or held_back or guest.stop:
        return
    completed(insn)
    cpu.debug[6] |= SINGLE_STEP
    guest.instructions -= 1
    guest.ticks -= 1
    delivery.reflect(GuestFault(Vector.DB))
