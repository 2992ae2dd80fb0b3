"""Segment registers: loads and stores of the virtual selectors. On a trap core the real segment
registers hold the host's."""

from __future__ import annotations

from cores.vmm.emulate.emulator import Emulator, Handlers
from cores.x86.isa.instruction import Instruction, Operand, Register
from cores.x86.mmu.stack import Stack
from cores.x86.registers import RSP, SEGMENT_NAMES


def mov_segment(e: Emulator, insn: Instruction, destination: Operand, source: Operand) -> str:
    if isinstance(source, Register) and source.name in SEGMENT_NAMES:
        e.store_word(insn, e.read(insn, source))
        return f"gave the virtual {source.name}"
    assert isinstance(destination, Register)
    selector = e.read(insn, source, 2) & 0xFFFF
    return e.load_segment(SEGMENT_NAMES.index(destination.name), selector)


def push_segment(e: Emulator, insn: Instruction) -> str:
    operand = insn.operands[0]
    assert isinstance(operand, Register)
    e.push(e.read(insn, operand), insn.operand_size)
    return f"pushed the virtual {operand.name}"


def pop_segment(e: Emulator, insn: Instruction) -> str:
    operand = insn.operands[0]
    assert isinstance(operand, Register)
    stack = Stack.current(e.mmu)
    (value,) = stack.pop(1, insn.operand_size)
    handled = e.load_segment(SEGMENT_NAMES.index(operand.name), value & 0xFFFF)
    e.cpu.gpr[RSP] = stack.pointer  # moved by the width that SS had before
    return handled


def load_far_pointer(e: Emulator, insn: Instruction) -> str:
    index = SEGMENT_NAMES.index(insn.mnemonic[1:])
    offset, selector = e.far_pointer(insn, insn.operands[-1])
    handled = e.load_segment(index, selector)
    e.shadows_next = False  # LSS needs none: it loads RSP too (SDM vol. 3, 6.8.3)
    e.write(insn, insn.operands[0], offset)
    return handled


HANDLERS: Handlers = {
    "push": push_segment,
    "pop": pop_segment,
    "lds": load_far_pointer,
    "les": load_far_pointer,
    "lss": load_far_pointer,
    "lfs": load_far_pointer,
    "lgs": load_far_pointer,
}
