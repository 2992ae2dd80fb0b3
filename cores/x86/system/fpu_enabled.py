"""Availability of x87, MMX and SSE by CR0 and CR4 (SDM vol. 3, tables 2-2 and 13-1).

An operating system sets CR0.TS to get #NM at a task's first use of these registers. On a trap core the
bit exists only in the virtual CR0, and the real CPU would not fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cores.x86.faults import GuestFault, undefined_opcode
from cores.x86.isa.instruction import Instruction, Register
from cores.x86.registers import Cr0, Cr4, Vector

if TYPE_CHECKING:
    from cores.x86.virtual_cpu import VirtualCpu

_UNUSUAL = Cr0.EM | Cr0.TS


def check_fpu_enabled(insn: Instruction, cpu: VirtualCpu) -> None:
    """Raises GuestFault #NM or #UD where the CPU would; ``insn.floating`` is true."""
    cr0 = cpu.cr0
    if not cr0 & _UNUSUAL and cpu.cr4 & Cr4.OSFXSR:
        return
    if insn.mnemonic in ("wait", "fwait"):
        if cr0 & Cr0.MP and cr0 & Cr0.TS:
            raise GuestFault(Vector.NM)
        return
    names = [operand.name for operand in insn.operands if isinstance(operand, Register)]
    is_sse = insn.mnemonic in ("ldmxcsr", "stmxcsr") or any(n.startswith("xmm") for n in names)
    is_mmx = insn.mnemonic == "emms" or any(n.startswith("mm") for n in names)
    if (is_sse or is_mmx) and cr0 & Cr0.EM:
        raise undefined_opcode()
    if is_sse and not cpu.cr4 & Cr4.OSFXSR:
        raise undefined_opcode()
    if cr0 & Cr0.TS or cr0 & Cr0.EM:
        raise GuestFault(Vector.NM)
