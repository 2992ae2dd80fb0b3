"""Control registers, debug registers and MSRs: permitted values, and required flushes."""

from __future__ import annotations

import pytest
from guest_lab import Lab

from cores.x86.faults import GuestFault
from cores.x86.registers import FS, MSRS, Cr0, Cr4, Efer, Msr, Vector
from cores.x86.system import control_registers as control

CR0, CR4, EFER = 0x80050033, 0x620, 0xD01


@pytest.fixture
def cpu():
    return Lab().cpu


def refused(cpu, call, *args):
    """A write that must fault and change nothing."""
    before = cpu.copy()
    with pytest.raises(GuestFault) as caught:
        call(cpu, *args)
    assert cpu == before
    return caught.value.vector, caught.value.error


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (0, CR0 & ~Cr0.PG),
        (0, CR0 & ~Cr0.PE),
        (0, 0),
        (0, CR0 | Cr0.NW),
        (0, CR0 | 1 << 32),
        (0, CR0 | 1 << 6),
        (3, 1 << 40),
        (3, 1 << 63),
        (4, CR4 & ~Cr4.PAE),
        (4, CR4 | 1 << 18),  # OSXSAVE
        (4, CR4 | 1 << 16),  # FSGSBASE
        (4, CR4 | 1 << 11),  # UMIP
        (4, CR4 | 1),  # VME
        (8, 16),
    ],
)
def test_refused_control_values(cpu, number, value):
    """A reserved or contradictory value is #GP(0), and the register keeps its value."""
    assert refused(cpu, control.write_control, number, value) == (Vector.GP, 0)


@pytest.mark.parametrize(
    ("number", "value", "flush"),
    [
        (0, CR0 | Cr0.TS | Cr0.CD | Cr0.NW | Cr0.EM, False),
        (0, CR0 & ~Cr0.WP, True),
        (2, 1 << 63, False),
        (3, 0x12018, True),
        (4, CR4 | Cr4.TSD | Cr4.DE, False),
        (4, CR4 | Cr4.PGE, True),
        (4, CR4 | Cr4.SMEP | Cr4.SMAP, True),
        (8, 15, False),
    ],
)
def test_accepted_control_values(cpu, number, value, flush):
    """A valid value is read back, and the caller learns whether translations are stale."""
    assert control.write_control(cpu, number, value) is flush
    assert control.read_control(cpu, number) == value


@pytest.mark.parametrize("number", [1, 5, 6, 7, 9, 15])
def test_control_registers_that_do_not_exist(cpu, number):
    """CR1, CR5 and the like are #UD to read and to write."""
    assert refused(cpu, control.write_control, number, 0) == (Vector.UD, None)
    assert refused(cpu, control.read_control, number) == (Vector.UD, None)


def test_extension_type_stays_set(cpu):
    """CR0.ET cannot be cleared."""
    control.write_cr0(cpu, CR0 & ~Cr0.ET)
    assert cpu.cr0 == CR0


def test_lmsw_and_clts(cpu):
    """LMSW reaches the low four bits and cannot clear PE; CLTS clears TS."""
    control.lmsw(cpu, 0xFFF8)
    assert cpu.cr0 == CR0 & ~Cr0.MP | Cr0.TS
    control.clts(cpu)
    assert cpu.cr0 == CR0 & ~Cr0.MP


def test_debug_registers(cpu):
    """DR6 and DR7 keep their fixed bits; DR4 and DR5 are aliases unless CR4.DE is set."""
    control.write_debug(cpu, 0, 1 << 63)
    control.write_debug(cpu, 6, 0)
    control.write_debug(cpu, 5, 0xFFFFFFFF)
    assert [control.read_debug(cpu, n) for n in (0, 4, 6, 7)] == [
        1 << 63, 0xFFFF0FF0, 0xFFFF0FF0, 0xFFFF27FF,
    ]  # fmt: skip
    assert refused(cpu, control.write_debug, 7, 1 << 32) == (Vector.GP, 0)
    assert refused(cpu, control.write_debug, 8, 0) == (Vector.UD, None)
    cpu.cr4 |= Cr4.DE
    assert refused(cpu, control.read_debug, 4) == (Vector.UD, None)


@pytest.mark.parametrize("msr", sorted(MSRS - {Msr.EFER, Msr.APIC_BASE}))
def test_msrs_keep_what_is_written(cpu, msr):
    """Every MSR of the platform is read back as written, in every core's software copy."""
    assert control.write_msr(cpu, msr, 0x12345678, ticks=5) is False
    assert control.read_msr(cpu, msr, ticks=5) == 0x12345678


@pytest.mark.parametrize("msr", [0xC0010000, 0xC0010007])
def test_counters_can_be_reset(cpu, msr):
    """Performance counters, of which there are none, read 0 and take 0 alone."""
    assert control.write_msr(cpu, msr, 0, 0) is False
    assert control.read_msr(cpu, msr, 0) == 0
    assert refused(cpu, control.write_msr, msr, 1, 0) == (Vector.GP, 0)


@pytest.mark.parametrize("msr", [0x174, 0x277, 0xC0000103, 0xC0000104, 0xC000FFFF, 0xC0010008])
def test_unknown_msrs(cpu, msr):
    """SYSENTER, PAT, TSC_AUX and the rest are #GP(0)."""
    assert refused(cpu, control.read_msr, msr, 0) == (Vector.GP, 0)
    assert refused(cpu, control.write_msr, msr, 0, 0) == (Vector.GP, 0)


@pytest.mark.parametrize(
    ("msr", "value"),
    [
        (Msr.FS_BASE, 1 << 47),
        (Msr.GS_BASE, 1 << 63),
        (Msr.KERNEL_GS_BASE, 1 << 47),
        (Msr.LSTAR, 1 << 47),
        (Msr.CSTAR, 1 << 47),
        (Msr.FMASK, 1 << 32),
        (Msr.EFER, EFER | 1 << 1),
        (Msr.EFER, EFER | 1 << 12),
        (Msr.EFER, EFER & ~Efer.LME),
    ],
)
def test_refused_msr_values(cpu, msr, value):
    """Non-canonical addresses, reserved bits, and LME while paging are #GP(0)."""
    assert refused(cpu, control.write_msr, msr, value, 0) == (Vector.GP, 0)


def test_efer(cpu):
    """A write cannot set LMA; changing NXE flushes, since it changes the meaning of page tables."""
    assert control.write_msr(cpu, Msr.EFER, (Efer.LME | Efer.NXE), 0) is False
    assert cpu.efer == EFER & ~Efer.SCE
    assert control.write_msr(cpu, Msr.EFER, (Efer.LME | Efer.SCE), 0) is True
    assert cpu.efer == EFER & ~Efer.NXE


def test_apic_base(cpu):
    """EN may be cleared and set; BSP stays; moving it, x2APIC and reserved bits are #GP(0)."""
    assert control.read_msr(cpu, Msr.APIC_BASE, 0) == 0xFEE00900
    for value, kept in ((0xFEE00000, 0xFEE00100), (0xFEE00900, 0xFEE00900)):
        control.write_msr(cpu, Msr.APIC_BASE, value, 0)
        assert control.read_msr(cpu, Msr.APIC_BASE, 0) == kept
    for value in (0xFEE01900, 0x900, 0xFEE00D00, 0xFEE00901, 1 << 36 | 0xFEE00900):
        assert refused(cpu, control.write_msr, Msr.APIC_BASE, value, 0) == (Vector.GP, 0)


def test_time_stamp_counter(cpu):
    """The TSC counts 1000 a tick, from the written value on, modulo 2**64."""
    assert control.read_tsc(cpu, 7) == 7000
    control.write_msr(cpu, Msr.TSC, 100, ticks=7)
    assert control.read_msr(cpu, Msr.TSC, ticks=8) == 1100
    assert cpu.copy().tsc_offset == cpu.tsc_offset


def test_segment_bases_are_the_segments_own(cpu):
    """The MSR FS_BASE is the hidden base of FS."""
    control.write_msr(cpu, Msr.FS_BASE, 0x7FFF00000000, 0)
    assert cpu.segments[FS].base == 0x7FFF00000000
