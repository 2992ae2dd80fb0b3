"""The mode is read off the registers, whatever they were before."""

from __future__ import annotations

import pytest

from cores.x86.mode import Mode, address_mask, code_bits, mode, stack_bits
from cores.x86.registers import CS, SS, Cr0, Efer
from cores.x86.virtual_cpu import VirtualCpu

L, D, B = 0x2000, 0x4000, 0x4000


@pytest.mark.parametrize(
    ("cr0", "efer", "code", "stack", "expected"),
    [
        (0, 0, 0x9B, 0x93, (Mode.REAL, 16, 16, 32)),
        (0, 0, 0x9B | D, 0x93 | B, (Mode.REAL, 32, 32, 32)),  # until CS and SS are loaded
        (Cr0.PE, 0, 0x9B, 0x93 | B, (Mode.PROTECTED_16, 16, 32, 32)),
        (Cr0.PE, 0, 0x9B | D, 0x93, (Mode.PROTECTED_32, 32, 16, 32)),
        (Cr0.PE, 0, 0x9B | D | L, 0x93, (Mode.PROTECTED_32, 32, 16, 32)),  # L counts in long mode
        (Cr0.PE, Efer.LMA, 0x9B, 0x93, (Mode.COMPATIBILITY, 16, 16, 32)),
        (Cr0.PE, Efer.LMA, 0x9B | D, 0x93 | B, (Mode.COMPATIBILITY, 32, 32, 32)),
        (Cr0.PE, Efer.LMA, 0x9B | L, 0x93, (Mode.LONG, 64, 64, 64)),
    ],
)
def test_the_mode_of_each_combination(
    cr0: int, efer: int, code: int, stack: int, expected: tuple[Mode, int, int, int]
) -> None:
    """Mode, code width, stack width and bits of RIP, by CR0.PE, EFER.LMA, CS.L, CS.D and SS.B."""
    cpu = VirtualCpu(cr0=cr0, efer=efer)
    cpu.segments[CS].attributes, cpu.segments[SS].attributes = code, stack
    assert (mode(cpu), code_bits(cpu), stack_bits(cpu), address_mask(cpu).bit_length()) == expected


def test_cpl_does_not_depend_on_a_real_mode_selector() -> None:
    """A selector whose low bits are set is ring 0 in real mode, and until the far jump after it."""
    cpu = VirtualCpu()
    cpu.segments[CS].selector = 0x1233
    assert cpu.cpl == 0
    cpu.cr0 |= Cr0.PE
    assert cpu.cpl == 0
