"""A virtual CPU in 64-, 32- or 16-bit code, with segments as a kernel sets them."""

from __future__ import annotations

from cores.x86.mode import CODE_64, DEFAULT_32
from cores.x86.registers import CS, Cr0, Efer
from cores.x86.virtual_cpu import Segment, VirtualCpu

CODE, DATA = 0x9B, 0x93
"""Attributes of readable code and writable data, present and accessed, DPL 0."""


def flat_cpu(bits: int = 64, *, rip: int = 0, rflags: int = 2) -> VirtualCpu:
    """In ring 0, with segments from 0 to 4 GiB, to 64 KiB in 16-bit code; no paging outside long
    mode."""
    cpu = VirtualCpu(rip=rip, rflags=rflags, cr0=Cr0.PE)
    limit, wide = (0xFFFF, 0) if bits == 16 else (0xFFFFFFFF, DEFAULT_32)
    cpu.segments[:] = [Segment(0x10, 0, limit, DATA | wide) for _ in range(6)]
    cpu.segments[CS] = Segment(8, 0, limit, CODE | wide)
    if bits == 64:
        cpu.cr0 |= Cr0.PG
        cpu.efer = Efer.LME | Efer.LMA
        cpu.segments[CS].attributes = CODE | CODE_64
    return cpu
