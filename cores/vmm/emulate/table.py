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
from cores.x86.isa.encoding import parse
from cores.x86.isa.instruction import Instruction
from cores.x86.isa.opcodes import is_x87

HANDLERS: Handlers = {
    **ports.HANDLERS, **flags.HANDLERS, **control_registers.HANDLERS, **descriptor_tables.HANDLERS,
    **segments.HANDLERS, **far_transfers.HANDLERS, **cpuid_time.HANDLERS, **unicorn_gaps.HANDLERS,
    **approximations.HANDLERS, "fldcw": fpu_state.fldcw,
}  # fmt: skip
"""An instruction without a handler is one that the platform's CPU does not have: #UD."""

VARYING: Handlers = {**branches_stack.NEAR, **fpu_state.HANDLERS}
"""What completes an instruction in which CPUs differ (``Instruction.varies``)."""

LACKED = frozenset(unicorn_gaps.HANDLERS)
"""Ordinary instructions that the platform's CPU has, and to which some executing CPU says #UD."""


def find(insn: Instruction) -> Handler | None:
    """The handler that completes an instruction; None where the platform's CPU has none such. Of x87's
    only those come here that meet a stack fault, which Unicorn would not find."""
    handler = (VARYING if insn.varies else HANDLERS).get(insn.mnemonic)
    if handler is None and insn.floating and is_x87(parse(insn.code)):
        return fpu_state.stack_fault
    return handler
