"""x87 and SSE state: conversion between FXSAVE64 images (SDM vol. 1, 10.5.1) and Unicorn's
registers."""

from __future__ import annotations

import struct

from cores.engines.unicorn.capi import Unicorn
from cores.engines.unicorn.layout import REG_FDP, REG_FIP, REG_FPCW, REG_MXCSR, Layout

IMAGE_BYTES = 512
MXCSR_MASK = 0xFFFF
_TOP = struct.Struct("<IHH8s")
_STACK, _XMM = struct.Struct("10s6x" * 8), struct.Struct("16s48x" * 15 + "16s")
_EXCEPTIONS = 0x3D
"""IE, ZE, OE, UE and PE have the same bits in MXCSR, in the x87 status word and in QEMU's softfloat;
DE has none there (softfloat tells of denormals only when it flushes them)."""
_DENORMAL_FLUSHED, _DE = 0x40, 0x02
_STATUS_SUMMARY = 0x8080
"""ES and B: an unmasked x87 exception is pending."""


def read_image(unicorn: Unicorn, layout: Layout) -> bytes:
    """The 512-byte image. The addresses of the last instruction and of its operand are filled in while
    an unmasked exception is pending, as on AMD's CPUs, else 0; FOP, which Unicorn does not keep, is
    0."""
    settle_exceptions(unicorn, layout)
    saved = unicorn.registers
    top, status, control, tags = _TOP.unpack_from(saved, layout.x87_top)
    status = status & ~0x3800 | (top & 7) << 11
    abridged = sum(1 << i for i in range(8) if not tags[i])
    mxcsr = struct.unpack_from("<I", saved, layout.mxcsr)[0]
    image = bytearray(IMAGE_BYTES)
    at = data = 0
    if status & _STATUS_SUMMARY:
        at, data = unicorn.read_address(REG_FIP), unicorn.read_address(REG_FDP)
    struct.pack_into("<HHB3xQQII", image, 0, control, status, abridged, at, data, mxcsr, MXCSR_MASK)
    stack, top = _STACK.unpack_from(saved, layout.x87), top & 7  # R(i) in Unicorn, ST(i) in the image
    _STACK.pack_into(image, 32, *stack[top:], *stack[:top])
    image[160:416] = b"".join(_XMM.unpack_from(saved, layout.xmm))
    return bytes(image)


def write_image(unicorn: Unicorn, layout: Layout, image: bytes) -> None:
    control, status, abridged, mxcsr = struct.unpack_from("<HHB19xI", image, 0)
    unicorn.write_register(REG_FPCW, struct.pack("<H", control))  # these two also set rounding
    unicorn.write_register(REG_MXCSR, struct.pack("<I", mxcsr))
    unicorn.write_register(REG_FIP, bytes(image[8:16]))
    unicorn.write_register(REG_FDP, bytes(image[16:24]))
    unicorn.save()
    saved = unicorn.registers
    top = status >> 11 & 7
    tags = bytes(not abridged >> i & 1 for i in range(8))
    _TOP.pack_into(saved, layout.x87_top, top, status & ~0x3800, control, tags)
    for i in range(8):
        physical = layout.x87 + 16 * ((top + i) & 7)
        saved[physical : physical + 10] = image[32 + 16 * i : 42 + 16 * i]
    for i in range(16):
        at = layout.xmm + 64 * i
        saved[at : at + 16] = image[160 + 16 * i : 176 + 16 * i]
    saved[layout.x87_exceptions] = saved[layout.sse_exceptions] = 0
    unicorn.restore()


def exceptions_waiting(unicorn: Unicorn, layout: Layout) -> bool:
    """Has an instruction raised (masked) exceptions that its status register does not show yet? Reads
    the registers as last saved."""
    saved = unicorn.registers
    return bool(saved[layout.sse_exceptions] | saved[layout.x87_exceptions])


def settle_exceptions(unicorn: Unicorn, layout: Layout) -> None:
    """Set the sticky flags of MXCSR and of the x87 status word as a CPU would.

    QEMU collects them in separate fields and never copies them to these registers."""
    unicorn.save()
    if not exceptions_waiting(unicorn, layout):
        return
    saved = unicorn.registers
    saved[layout.mxcsr] |= _visible(saved[layout.sse_exceptions])
    status_at = layout.x87_top + 4
    status, control = struct.unpack_from("<HH", saved, status_at)
    status |= _visible(saved[layout.x87_exceptions])
    if status & ~control & 0x3F:
        status |= _STATUS_SUMMARY
    struct.pack_into("<H", saved, status_at, status)
    saved[layout.sse_exceptions] = saved[layout.x87_exceptions] = 0
    unicorn.restore()


def _visible(exceptions: int) -> int:
    return exceptions & _EXCEPTIONS | (_DE if exceptions & _DENORMAL_FLUSHED else 0)
