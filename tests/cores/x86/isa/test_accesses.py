"""The memory that an instruction is about to access, computed from its registers."""

from __future__ import annotations

import pytest

from cores.x86.isa.accesses import accesses, effective_address, written_ranges
from cores.x86.isa.decoder import decode
from cores.x86.isa.instruction import MemoryOperand
from cores.x86.registers import DS, FS, GS, MASK64, RAX, RBP, RBX, RCX, RDI, RSI, RSP, Flag
from cores.x86.virtual_cpu import VirtualCpu

STACK, DATA, SOURCE, TARGET = 0x8000, 0x3000, 0x5000, 0x6000


def machine(**registers: int) -> VirtualCpu:
    cpu = VirtualCpu(rip=0x100000)
    cpu.gpr[RSP], cpu.gpr[RBX], cpu.gpr[RBP] = STACK, DATA, 0x7000
    cpu.gpr[RSI], cpu.gpr[RDI] = SOURCE, TARGET
    for name, value in registers.items():
        cpu.gpr[{"rax": RAX, "rcx": RCX, "rbx": RBX, "rdi": RDI, "rsi": RSI}[name]] = value
    return cpu


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("89 c8", ()), ("48 8d 03", ()), ("0f 1f 03", ()), ("0f 18 0b", ()),
        ("8b 03", ((DATA, 4, False),)), ("89 43 08", ((DATA + 8, 4, True),)),
        ("66 01 03", ((DATA, 2, True),)), ("0f b1 0b", ((DATA, 4, True),)),
        ("53", ((STACK - 8, 8, True),)), ("66 53", ((STACK - 2, 2, True),)),
        ("5b", ((STACK, 8, False),)), ("ff 33", ((DATA, 8, False), (STACK - 8, 8, True))),
        ("8f 44 24 10", ((STACK, 8, False), (STACK + 0x18, 8, True))),
        ("e8 00 00 00 00", ((STACK - 8, 8, True),)),
        ("ff 13", ((DATA, 8, False), (STACK - 8, 8, True))), ("c3", ((STACK, 8, False),)),
        ("c9", ((0x7000, 8, False),)), ("c8 10 00 00", ((STACK - 8, 8, True),)),
        ("c8 10 00 03", ((0x7000 - 16, 16, False), (STACK - 32, 32, True))),
        ("0f ae 03", ((DATA, 512, True),)), ("48 0f c7 0b", ((DATA, 16, True),)),
        ("db 3b", ((DATA, 10, True),)), ("dd 33", ((DATA, 108, True),)), ("dd 3b", ((DATA, 2, True),)),
        ("66 0f f7 c1", ((TARGET, 16, True),)), ("0f f7 c1", ((TARGET, 8, True),)),
        ("d7", ((DATA + 0x20, 1, False),)), ("a4", ((TARGET, 1, True), (SOURCE, 1, False))),
        ("a6", ((SOURCE, 1, False), (TARGET, 1, False))), ("48 ab", ((TARGET, 8, True),)),
        ("ae", ((TARGET, 1, False),)), ("ad", ((SOURCE, 4, False),)),
        ("0f ba 2b 25", ((DATA, 4, True),)), ("0f ba 23 05", ((DATA, 4, False),)),
    ],
)  # fmt: skip
def test_accesses(code: str, expected: tuple[tuple[int, int, bool], ...]) -> None:
    """Explicit operands, the stack, and implicit accesses of string, table and FPU instructions are
    found."""
    insn, cpu = decode(bytes.fromhex(code)), machine(rax=0x1120)
    before = cpu.copy()
    assert accesses(insn, cpu) == expected
    assert written_ranges(insn, cpu) == tuple((a, n) for a, n, write in expected if write)
    assert cpu == before


@pytest.mark.parametrize(
    ("code", "rcx", "flags", "expected"),
    [
        ("f3 a4", 16, 0, ((TARGET, 16, True), (SOURCE, 16, False))),
        ("f3 48 ab", 4, 0, ((TARGET, 32, True),)),
        ("f3 48 ab", 4, Flag.DF, ((TARGET - 24, 32, True),)),
        ("f3 a4", 0, 0, ()), ("67 f3 aa", 1 << 32, 0, ()),
        ("67 f3 aa", (1 << 32) + 2, 0, ((TARGET, 2, True),)),
        ("a4", 7, Flag.DF, ((TARGET, 1, True), (SOURCE, 1, False))),
    ],
)  # fmt: skip
def test_repeated_strings(
    code: str, rcx: int, flags: int, expected: tuple[tuple[int, int, bool], ...]
) -> None:
    """A repeated string accesses the whole range, by count, direction and address size."""
    cpu = machine(rcx=rcx)
    cpu.rflags |= flags
    assert accesses(decode(bytes.fromhex(code)), cpu) == expected


@pytest.mark.parametrize(
    ("code", "bit", "address"),
    [
        ("0f ab 03", 31, DATA), ("0f ab 03", 32, DATA + 4), ("0f ab 03", -1, DATA - 4),
        ("48 0f b3 03", -65, DATA - 16), ("66 0f bb 03", 0x7FFF, DATA + 0xFFE),
        ("66 0f bb 03", 0x8000, DATA - 0x1000), ("0f ab 03", 1 << 32, DATA),
    ],
)  # fmt: skip
def test_bit_strings_reach_beyond_their_operand(code: str, bit: int, address: int) -> None:
    """BTS with a register counts bits from the operand on, backwards too, as a signed number."""
    insn = decode(bytes.fromhex(code))
    assert written_ranges(insn, machine(rax=bit & MASK64)) == ((address, insn.operand_size),)


@pytest.mark.parametrize(
    ("operand", "address"),
    [
        (MemoryOperand(DS, None, None, 1, 0x10, True, 8, 8), 0x100017),
        (MemoryOperand(DS, RBX, RAX, 8, -8, False, 8, 8), DATA + 0x78),
        (MemoryOperand(FS, RBX, None, 1, 0, False, 8, 8), DATA + 0xF0000),
        (MemoryOperand(GS, None, None, 1, 8, False, 8, 8), 0),
        (MemoryOperand(DS, RCX, None, 1, 1, False, 8, 8), 0),
        (MemoryOperand(DS, RCX, None, 1, 1, False, 8, 4), 0),
        (MemoryOperand(FS, RCX, None, 1, 0, False, 8, 4), 0xF0000 + 0xFFFFFFFF),
    ],
)  # fmt: skip
def test_effective_address(operand: MemoryOperand, address: int) -> None:
    """Addresses sum base, index, RIP, and FS and GS bases, with 32-bit addresses too, and wrap."""
    cpu = machine(rax=0x10, rcx=MASK64)
    cpu.segments[FS].base, cpu.segments[GS].base = 0xF0000, MASK64 - 7
    assert effective_address(operand, cpu, 7) == address & MASK64
