"""The table of emulation handlers: mnemonic to the function that completes the instruction."""

from __future__ import annotations

from cores.vmm.emulate import (
    approximations,
    branches_stack,
    control_registers,
    cpuid_time,
    descriptor_tables,
    far_transfers,
    flags,
    fpu_state,
    ports,
    segments,
    unicorn_gaps,
)
from cores.vmm.emulate.emulator import Handler, Handlers
from cores.vmm.emulate.strings import HANDLERS as STRINGS
from cores.x86.isa.encoding import parse
from cores.x86.isa.instruction import Instruction
from cores.x86.isa.opcodes import is_x87

HANDLERS: Handlers = {
    **ports.HANDLERS, **flags.HANDLERS, **control_registers.HANDLERS, **descriptor_tables.HANDLERS,
    **segments.HANDLERS, **far_transfers.HANDLERS, **cpuid_time.HANDLERS, **unicorn_gaps.HANDLERS,
    **approximations.HANDLERS, "fldcw": fpu_state.fldcw,
}  # fmt: skip
"""Mnemonic to handler. The platform's CPU lacks an instruction without a handler: #UD."""

VARYING: Handlers = {**branches_stack.NEAR, **fpu_state.HANDLERS}
"""Handlers of instructions whose results differ between CPUs (``Instruction.varies``)."""

LACKED = frozenset(unicorn_gaps.HANDLERS)
"""Ordinary instructions of the platform's CPU at which some executing CPU raises #UD."""


def find(insn: Instruction) -> Handler | None:
    """The handler that completes an instruction; None where the platform's CPU has no such instruction.
    An x87 instruction without a handler comes here only at a stack fault, which Unicorn does not
    detect."""
    handler = (VARYING if insn.varies else HANDLERS).get(insn.mnemonic) or STRINGS.get(insn.mnemonic)
    if handler is None and insn.floating and is_x87(parse(insn.code, insn.bits)):
        return fpu_state.stack_fault
    return handler
