"""Register transfer between ``VirtualCpu`` and Unicorn's register file.

Only registers that differ are copied. Between two steps usually none do: then nothing is written, and
reading back is one copy of the register file, 18 numbers and two comparisons of bytes.
"""

from __future__ import annotations

import struct

from cores.engines.unicorn.capi import Unicorn
from cores.engines.unicorn.layout import SEGMENT_BYTES, Layout
from cores.x86.mode import CODE_64, DEFAULT_32
from cores.x86.registers import CS, DS, ES, SS, Cr0, Cr4, Efer
from cores.x86.virtual_cpu import DPL, Segment, VirtualCpu

_GENERAL = struct.Struct("<18Q")
_SEGMENT = struct.Struct("<I4xQII")
_MSRS = struct.Struct("<QQQQQQ")
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_NOTHING = 0xFFFF_FFFF
"""The value of ``Layout.in_flight`` when no exception is being delivered."""

# Bits of QEMU's hflags: state on which translated code depends.
_H_SHADOW, _H_CS32, _H_SS32, _H_ADDSEG, _H_PE = 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7
_H_LMA, _H_CS64, _H_OSFXSR, _H_SMAP = 1 << 14, 1 << 15, 1 << 22, 1 << 23

_PAGING = slice(0, 4)
"""CR0, CR3, CR4 and EFER in what ``_privileged`` returns: the TLB depends on them."""


class RegisterTransfer:
    """Copies the registers of a ``VirtualCpu`` to and from one Unicorn.

    CR8, the debug registers and interrupts are handled by the VMM, and never reach Unicorn.
    """

    def __init__(self, unicorn: Unicorn, layout: Layout) -> None:
        self._unicorn = unicorn
        self._buffer = unicorn.registers
        self._layout = layout
        self._hidden_slice = slice(layout.hflags, layout.efer + 8)
        self._msr_slice = slice(layout.star, layout.star + 48)
        unicorn.save()
        self._general: tuple[int, ...] = ()
        self._entered: tuple[int, ...] = ()
        self._privileged: tuple[object, ...] = ()
        self._hidden = self._msrs = b""

    def enter(self, cpu: VirtualCpu, *, alone: bool = False) -> None:
        """Write the registers of ``cpu`` to Unicorn. RIP is an argument of ``Unicorn.start``. alone: in
        an interrupt shadow, in which Unicorn's blocks have one instruction."""
        self._entered = general = (*cpu.gpr, cpu.rip, cpu.rflags)
        privileged = _privileged(cpu)
        if privileged != self._privileged:
            if privileged[_PAGING] != self._privileged[_PAGING]:
                self._unicorn.flush_tlb()
            self._write_privileged(cpu)
            self._privileged = privileged
        elif general == self._general and not alone:
            return
        _GENERAL.pack_into(self._buffer, self._layout.gpr, *general)
        if alone:
            hflags = _U32.unpack_from(self._buffer, self._layout.hflags)[0]
            _U32.pack_into(self._buffer, self._layout.hflags, hflags | _H_SHADOW)
        self._general = general
        self._unicorn.restore()

    def leave(self, cpu: VirtualCpu) -> None:
        """Read Unicorn's registers into ``cpu``."""
        self._unicorn.save()
        buffer = self._buffer
        self._general = general = _GENERAL.unpack_from(buffer, self._layout.gpr)
        cpu.gpr[:] = general[:16]
        cpu.rip, cpu.rflags = general[16:]
        hidden, msrs = bytes(buffer[self._hidden_slice]), bytes(buffer[self._msr_slice])
        if hidden != self._hidden or msrs != self._msrs:
            self._read_privileged(cpu)
            self._hidden, self._msrs = hidden, msrs
            self._privileged = _privileged(cpu)

    def forget(self) -> None:
        """Clear a fault that Unicorn may have raised by itself, and write all registers at the next
        ``enter``."""
        self._unicorn.save()
        _U32.pack_into(self._buffer, self._layout.in_flight, _NOTHING)
        self._unicorn.restore()
        self._privileged = ()

    def undo(self, cpu: VirtualCpu) -> None:
        """Restore the general registers, RIP and flags that ``cpu`` had at the last ``enter``."""
        cpu.gpr[:] = self._entered[:16]
        cpu.rip, cpu.rflags = self._entered[16:]

    def fault_details(self) -> tuple[int, int]:
        """(error code, CR2) of the exception just raised. Clears Unicorn's record of the exception,
        since it would turn the next one into a double fault, and restores CR2: the VMM, which delivers
        the exception, sets it."""
        self._unicorn.save()
        buffer, layout = self._buffer, self._layout
        error = _U32.unpack_from(buffer, layout.error)[0]
        address = _U64.unpack_from(buffer, layout.cr + 16)[0]
        if self._privileged:
            _U64.pack_into(buffer, layout.cr + 16, self._privileged[4])
        _U32.pack_into(buffer, layout.in_flight, _NOTHING)
        self._unicorn.restore()
        return error, address

    def _write_privileged(self, cpu: VirtualCpu) -> None:
        buffer, layout = self._buffer, self._layout
        _U32.pack_into(buffer, layout.hflags, _hflags(cpu))
        at = layout.segments
        for segment in (*cpu.segments, cpu.ldtr, cpu.tr):
            upper = (segment.attributes & 0xF0FF) << 8
            _SEGMENT.pack_into(buffer, at, segment.selector, segment.base, segment.limit, upper)
            at += SEGMENT_BYTES
        for table in (cpu.gdtr, cpu.idtr):
            _SEGMENT.pack_into(buffer, at, 0, table.base, table.limit, 0)
            at += SEGMENT_BYTES
        for number, value in ((0, cpu.cr0), (2, cpu.cr2), (3, cpu.cr3), (4, cpu.cr4)):
            _U64.pack_into(buffer, layout.cr + 8 * number, value)
        _U64.pack_into(buffer, layout.efer, cpu.efer)
        _MSRS.pack_into(
            buffer, layout.star, cpu.star, 0, cpu.lstar, cpu.cstar, cpu.fmask, cpu.kernel_gs_base
        )
        self._hidden = bytes(buffer[self._hidden_slice])
        self._msrs = bytes(buffer[self._msr_slice])

    def _read_privileged(self, cpu: VirtualCpu) -> None:
        buffer, layout = self._buffer, self._layout
        at = layout.segments
        for segment in (*cpu.segments, cpu.ldtr, cpu.tr):
            _read_segment(segment, buffer, at)
            at += SEGMENT_BYTES
        for table in (cpu.gdtr, cpu.idtr):
            _, table.base, table.limit, _ = _SEGMENT.unpack_from(buffer, at)
            at += SEGMENT_BYTES
        # After MOV SS of a null selector Unicorn's SS has DPL 0 at every CPL.
        stack = cpu.segments[SS]
        stack.attributes = stack.attributes & ~DPL | (buffer[layout.hflags] & 3) << 5
        cpu.cr0, _, cpu.cr2, cpu.cr3, cpu.cr4 = struct.unpack_from("<5Q", buffer, layout.cr)
        cpu.efer = _U64.unpack_from(buffer, layout.efer)[0]
        cpu.star, _, cpu.lstar, cpu.cstar, cpu.fmask, cpu.kernel_gs_base = _MSRS.unpack_from(
            buffer, layout.star
        )
        cpu.interrupt_shadow = bool(buffer[layout.hflags] & _H_SHADOW)


def _read_segment(segment: Segment, buffer: memoryview, at: int) -> None:
    segment.selector, segment.base, segment.limit, upper = _SEGMENT.unpack_from(buffer, at)
    segment.attributes = upper >> 8 & 0xF0FF


def _privileged(cpu: VirtualCpu) -> tuple[object, ...]:
    """A fingerprint of all fields that ``_write_privileged`` writes."""
    es, cs, ss, ds, fs, gs = cpu.segments
    ldtr, tr, gdtr, idtr = cpu.ldtr, cpu.tr, cpu.gdtr, cpu.idtr
    return (
        cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer, cpu.cr2, cpu.interrupt_shadow,
        cs.selector, cs.base, cs.limit, cs.attributes, ss.selector, ss.base, ss.limit, ss.attributes,
        ds.selector, ds.base, ds.limit, ds.attributes, es.selector, es.base, es.limit, es.attributes,
        fs.selector, fs.base, fs.limit, fs.attributes, gs.selector, gs.base, gs.limit, gs.attributes,
        ldtr.selector, ldtr.base, ldtr.limit, ldtr.attributes,
        tr.selector, tr.base, tr.limit, tr.attributes,
        gdtr.base, gdtr.limit, idtr.base, idtr.limit,
        cpu.star, cpu.lstar, cpu.cstar, cpu.fmask, cpu.kernel_gs_base,
    )  # fmt: skip


def _hflags(cpu: VirtualCpu) -> int:
    """QEMU's hflags, which it derives from these registers when instructions load them."""
    cs, ss = cpu.segments[CS], cpu.segments[SS]
    flags = cpu.cpl | (cpu.cr0 & (Cr0.MP | Cr0.EM | Cr0.TS)) << 8  # HF_MP is bit 9, as MP is bit 1
    if cpu.cr0 & Cr0.PE:
        flags |= _H_PE
    if cpu.efer & Efer.LMA:
        flags |= _H_LMA
    if cpu.efer & Efer.LMA and cs.attributes & CODE_64:
        flags |= _H_CS64 | _H_CS32 | _H_SS32
    else:
        flags |= _H_SS32 if ss.attributes & DEFAULT_32 else 0
        flags |= _H_CS32 if cs.attributes & DEFAULT_32 else 0
        bases = any(cpu.segments[index].base for index in (ES, SS, DS))
        if bases or not (flags & _H_PE and flags & _H_CS32):
            flags |= _H_ADDSEG
    if cpu.cr4 & Cr4.OSFXSR:
        flags |= _H_OSFXSR
    if cpu.cr4 & Cr4.SMAP:
        flags |= _H_SMAP
    return int(flags) | (_H_SHADOW if cpu.interrupt_shadow else 0)
