"""Steps of textbook trap-and-emulate (``--pure``), in which the CPU executes what does not trap.

Two kinds of instructions need more than a single step. On a CPU with UMIP Linux completes SGDT, SIDT,
SLDT, STR and SMSW for ring 3, with invented values; the CPU's single-step trap, and a breakpoint too,
then come one instruction late (RF is set on the return). And PUSHF pushes the TF that steps it.
"""

from __future__ import annotations

from cores.engines.base import STEPPED, Exit
from cores.engines.ptrace.vcpu import Vcpu
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode
from cores.x86.isa.encoding import LONGEST
from cores.x86.isa.instruction import Instruction
from cores.x86.mode import code_bits
from cores.x86.virtual_cpu import VirtualCpu

KERNEL_ANSWERS = frozenset({"sgdt", "sidt", "sldt", "str", "smsw"})
INT3 = 0xCC
_TF_BYTE = 1
"""TF is bit 8 of RFLAGS: bit 0 of the second byte."""


def instruction(vcpu: Vcpu, cpu: VirtualCpu) -> Instruction | None:
    """The instruction at RIP in the process; None where nothing is mapped, or can be decoded."""
    try:
        code = vcpu.process.tracee.peek(vcpu.host_address(cpu, cpu.rip), LONGEST)
        return decode(code, code_bits(cpu))
    except (GuestFault, Truncated):
        return None


def copy_with_breakpoint(vcpu: Vcpu, page: int, length: int, behind: int) -> bytes:
    """The bytes of a page of code, with an INT3 at the address ``behind``."""
    code = bytearray(vcpu.process.tracee.peek(page, length))
    code[behind - page] = INT3
    return bytes(code)


def step(vcpu: Vcpu, cpu: VirtualCpu, insn: Instruction | None) -> Exit:
    """Step ``insn``, and clear TF in the flags that PUSHF has pushed."""
    exit = vcpu.step(cpu)
    if exit is STEPPED and insn is not None and insn.mnemonic == "pushf":
        vcpu.process.tracee.clear_bit(vcpu.stack_top(cpu) + _TF_BYTE, 0)
    return exit
