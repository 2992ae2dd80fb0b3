"""Segment, offset, size and access become a linear address, or the fault that a CPU raises."""

from __future__ import annotations

import pytest

from cores.x86.faults import GuestFault
from cores.x86.mmu.segmentation import check_fetch, code_address, linear, unchecked
from cores.x86.registers import CS, DS, ES, FS, SS, Cr0, Efer, Vector
from cores.x86.virtual_cpu import Segment, VirtualCpu

DATA, READ_ONLY, DOWN, CODE, EXECUTE_ONLY = 0x93, 0x91, 0x97, 0x9B, 0x99
BIG = 0x4000


def protected(segment: int, base: int, limit: int, attributes: int) -> VirtualCpu:
    """A CPU in protected mode with this segment."""
    cpu = VirtualCpu(cr0=Cr0.PE)
    cpu.segments[segment] = Segment(0x10, base, limit, attributes)
    return cpu


def fault(cpu: VirtualCpu, segment: int, offset: int, size: int, **how: bool) -> tuple[int, int | None]:
    with pytest.raises(GuestFault) as raised:
        linear(cpu, segment, offset, size, **how)
    return raised.value.vector, raised.value.error


def test_the_base_is_added_and_wraps_at_4_gib() -> None:
    """Linear addresses have 32 bits."""
    cpu = protected(DS, 0xFFFFF000, 0xFFFFFFFF, DATA | BIG)
    assert linear(cpu, DS, 0x1010, 4) == 0x10
    assert unchecked(cpu, DS, 0x1010) == 0x10


@pytest.mark.parametrize(("segment", "vector"), [(DS, Vector.GP), (ES, Vector.GP), (SS, Vector.SS)])
def test_the_limit_holds_for_the_last_byte(segment: int, vector: int) -> None:
    """An access that crosses the limit is #GP(0), through SS #SS(0)."""
    cpu = protected(segment, 0x1000, 0xFF, DATA)
    assert linear(cpu, segment, 0xFC, 4) == 0x10FC
    assert fault(cpu, segment, 0xFD, 4) == (vector, 0)


def test_expand_down() -> None:
    """What the limit leaves out is the segment, up to 64 KiB, or 4 GiB with B."""
    cpu = protected(DS, 0, 0xFFF, DOWN)
    assert linear(cpu, DS, 0x1000, 4) == 0x1000
    assert fault(cpu, DS, 0xFFF, 4) == (Vector.GP, 0)
    assert fault(cpu, DS, 0xFFFD, 4) == (Vector.GP, 0)
    cpu.segments[DS].attributes |= BIG
    assert linear(cpu, DS, 0xFFFD, 4) == 0xFFFD


def test_types() -> None:
    """Code is not written, execute-only code not read, read-only data not written; null is no
    segment."""
    assert fault(protected(DS, 0, 0xFFFF, READ_ONLY), DS, 0, 1, write=True) == (Vector.GP, 0)
    assert fault(protected(CS, 0, 0xFFFF, CODE), CS, 0, 1, write=True) == (Vector.GP, 0)
    assert fault(protected(CS, 0, 0xFFFF, EXECUTE_ONLY), CS, 0, 1) == (Vector.GP, 0)
    assert fault(protected(DS, 0, 0, 0), DS, 0, 1) == (Vector.GP, 0)
    assert linear(protected(CS, 0, 0xFFFF, CODE), CS, 0, 1) == 0


def test_real_mode_writes_code() -> None:
    """In real mode the type is not looked at, the limit is."""
    cpu = VirtualCpu()
    cpu.segments[CS] = Segment(0x100, 0x1000, 0xFFFF, CODE)
    assert linear(cpu, CS, 5, 1, write=True) == 0x1005
    assert fault(cpu, CS, 0xFFFF, 2) == (Vector.GP, 0)


def test_64_bit_mode_has_two_bases_and_no_limits() -> None:
    """Of the segments FS and GS have bases, and an address is canonical or #GP(0), #SS(0)."""
    cpu = VirtualCpu(cr0=Cr0.PE, efer=Efer.LMA)
    cpu.segments[CS].attributes = 0xA09B
    cpu.segments[DS] = Segment(0x18, 0x1000, 0, 0)
    cpu.segments[FS] = Segment(0, 0x5000, 0, 0)
    assert linear(cpu, DS, 0x123456789, 8) == 0x123456789
    assert linear(cpu, FS, 8, 8) == 0x5008
    assert fault(cpu, DS, (1 << 47) - 4, 8) == (Vector.GP, 0)
    assert fault(cpu, SS, 1 << 63, 8) == (Vector.SS, 0)
    assert code_address(cpu, 1 << 40) == 1 << 40


def test_code_ends_at_the_limit_of_cs() -> None:
    """Each byte of an instruction has to be inside CS."""
    cpu = protected(CS, 0x7000, 0xFFF, CODE)
    assert code_address(cpu, 0xFFE) == 0x7FFE
    check_fetch(cpu, 0xFFE, 2)
    with pytest.raises(GuestFault) as raised:
        check_fetch(cpu, 0xFFE, 3)
    assert (raised.value.vector, raised.value.error) == (Vector.GP, 0)
