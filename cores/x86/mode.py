"""The CPU's mode, read off its registers (SDM vol. 3, 2.2; APM vol. 2, 1.3).

The mode is what CR0.PE, EFER.LMA and the CS and SS descriptors say, and no variable beside them: a
guest that loads one of these is in another mode with its next instruction.

                    CR0.PE  EFER.LMA  CS.L  CS.D
    real              0         0            0/1    addresses are selector * 16 + offset
    prot16, prot32    1         0            0/1    segments with base and limit, paging of 32 bits
    compat            1         1       0    0/1    segments as in prot16 and prot32, paging of 64 bits
    long              1         1       1     0     64-bit mode: no bases but FS's and GS's, no limits
"""

from __future__ import annotations

from enum import StrEnum

from cores.x86.registers import CS, MASK32, MASK64, SS, Cr0, Efer
from cores.x86.virtual_cpu import VirtualCpu

CODE_64 = 1 << 13
"""L in a code segment's attributes: 64-bit code, where EFER.LMA is set."""
DEFAULT_32 = 1 << 14
"""D of a code segment: operands and addresses of 32 bits. B of a stack segment: ESP, not SP."""

_PE, _LMA = Cr0.PE, Efer.LMA


class Mode(StrEnum):
    """The modes of the platform's CPU. It has no virtual-8086 mode and no SMM (contract.md, Modes)."""

    REAL = "real"
    PROTECTED_16 = "prot16"
    PROTECTED_32 = "prot32"
    COMPATIBILITY = "compat"
    LONG = "long"


def mode(cpu: VirtualCpu) -> Mode:
    """The mode in which the next instruction is fetched."""
    if not cpu.cr0 & _PE:
        return Mode.REAL
    code = cpu.segments[CS].attributes
    if cpu.efer & _LMA:
        return Mode.LONG if code & CODE_64 else Mode.COMPATIBILITY
    return Mode.PROTECTED_32 if code & DEFAULT_32 else Mode.PROTECTED_16


def is_long(cpu: VirtualCpu) -> bool:
    """Whether the CPU is in 64-bit mode."""
    return bool(cpu.efer & _LMA and cpu.segments[CS].attributes & CODE_64)


def code_bits(cpu: VirtualCpu) -> int:
    """The default operand and address size of the code at CS:RIP: 16, 32 or 64. In real mode, too, D
    counts: a CPU that leaves protected mode keeps it until CS is loaded."""
    code = cpu.segments[CS].attributes
    if code & CODE_64 and cpu.efer & _LMA:
        return 64
    return 32 if code & DEFAULT_32 else 16


def is_flat(cpu: VirtualCpu, number: int) -> bool:
    """Is it a segment of 32 bits, from 0 to 4 GiB?"""
    segment = cpu.segments[number]
    return segment.base == 0 and segment.limit == MASK32 and bool(segment.attributes & DEFAULT_32)


def address_mask(cpu: VirtualCpu) -> int:
    """The bits of RIP and of a linear address: 64 in 64-bit mode, else 32. 16-bit code has 32 bits of
    EIP, too; its segment's limit and 16-bit branches hold it below 64 KiB."""
    return MASK64 if is_long(cpu) else MASK32


def stack_bits(cpu: VirtualCpu) -> int:
    """The width of the stack pointer: RSP, or by SS.B ESP or SP (SDM vol. 1, 6.2.3)."""
    if is_long(cpu):
        return 64
    return 32 if cpu.segments[SS].attributes & DEFAULT_32 else 16
