"""The layout of Unicorn's saved register file, found by calibration with known values.

Unicorn has no interface for the hidden parts of segment registers, the privilege level, an
exception's error code or the SSE exception flags; but its saved context contains them all. Registers
that can be set are set to values that occur nowhere else, and a fault with a known error code is
raised; the offsets at which these values are found are the layout. Fields between two such anchors
follow from the distance of the anchors; a layout that does not fit is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache

from cores.engines.unicorn.capi import Unicorn
from cores.errors import UnavailableError
from cores.pc.ram import Ram

# Unicorn's numbers of registers that it lets one set.
REG_RAX, REG_CR3, REG_FP0, REG_XMM0 = 35, 53, 82, 122
REG_GDTR, REG_MSR, REG_MXCSR, REG_FPCW, REG_FIP, REG_FDP = 243, 248, 249, 246, 254, 256
_GPR_NUMBERS = (35, 38, 40, 37, 44, 36, 43, 39, 106, 107, 108, 109, 110, 111, 112, 113)
_STAR, _KERNEL_GS = 0xC0000081, 0xC0000102

SEGMENT_BYTES = 24
"""One cached segment register: selector u32 (+4), base u64, limit u32, descriptor's upper half u32."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Byte offsets into ``Unicorn.registers``.

    gpr: 16 u64 in encoding order, RIP, RFLAGS. hflags: u32, what the translator depends on (CPL,
    code size, interrupt shadow, copies of CR0 and CR4 bits). segments: ES CS SS DS FS GS LDTR TR
    GDTR IDTR. cr: u64 each, CR0 to CR8. efer: u64. star: STAR, one unused, LSTAR, CSTAR, FMASK,
    KERNEL_GS_BASE. error: the last exception's error code, u32. in_flight: the exception that
    Unicorn believes to be in delivery, i32, -1 for none. x87: the eight x87 registers, 16 bytes
    each. mxcsr: u32. xmm: 64 bytes each. x87_exceptions, sse_exceptions: u8 each, exceptions that have
    not reached x87's status word, and MXCSR.
    """

    gpr: int
    hflags: int
    segments: int
    cr: int
    efer: int
    star: int
    error: int
    in_flight: int
    x87: int
    mxcsr: int
    xmm: int
    x87_exceptions: int = field(init=False)
    sse_exceptions: int = field(init=False)

    @property
    def x87_top(self) -> int:
        """Offset of TOP u32, status u16, control u16, 8 bytes of tags (1: empty)."""
        return self.x87 - 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "x87_exceptions", self.mxcsr - 38)
        object.__setattr__(self, "sse_exceptions", self.mxcsr - 6)


@lru_cache(maxsize=1)
def find_layout() -> Layout:
    """Calibrate, once per process. Raises UnavailableError where this build's layout is unknown."""
    unicorn = Unicorn()
    ram = Ram(4096)
    try:
        return _calibrate(unicorn, ram)
    finally:
        unicorn.close()
        ram.close()


def _calibrate(unicorn: Unicorn, ram: Ram) -> Layout:
    gprs = b"".join(struct.pack("<Q", 0x1122334455660000 + i) for i in range(16))
    for i, number in enumerate(_GPR_NUMBERS):
        unicorn.write_register(number, gprs[8 * i : 8 * i + 8])
    unicorn.write_register(REG_GDTR, struct.pack("<8xQ8x", 0x7F12345678))
    unicorn.write_register(REG_CR3, struct.pack("<Q", 0x123456789000))
    unicorn.write_register(REG_MXCSR, struct.pack("<I", 0x9FC0))
    unicorn.write_register(REG_FPCW, struct.pack("<H", 0x27F))
    unicorn.write_register(REG_FP0, bytes(range(0x51, 0x5B)))
    unicorn.write_register(REG_XMM0, bytes(range(0x31, 0x41)))
    for number, value in ((_STAR, 0x6611223344), (_KERNEL_GS, 0x6611223355)):
        unicorn.write_register(REG_MSR, struct.pack("<IxxxxQ", number, value))
    unicorn.save()
    saved = bytes(unicorn.registers)
    gpr = _find(saved, gprs)
    error = _find_error(unicorn, ram)
    layout = Layout(
        gpr=gpr,
        hflags=gpr + 176,
        segments=gpr + 184,
        cr=gpr + 184 + 10 * SEGMENT_BYTES,
        efer=_find(saved, struct.pack("<Q", 0x500)),  # as Unicorn starts: LME and LMA
        star=_find(saved, struct.pack("<Q", 0x6611223344)),
        error=error,
        in_flight=error + 112,
        x87=_find(saved, bytes(range(0x51, 0x5B))),
        mxcsr=_find(saved, struct.pack("<I", 0x9FC0)),
        xmm=_find(saved, bytes(range(0x31, 0x41))),
    )
    _expect(_find(saved, struct.pack("<Q", 0x7F12345678)), layout.segments + 8 * SEGMENT_BYTES + 8)
    _expect(_find(saved, struct.pack("<Q", 0x123456789000)), layout.cr + 24)
    _expect(_find(saved, struct.pack("<Q", 0x6611223355)), layout.star + 40)
    _expect(struct.unpack_from("<H", saved, layout.x87_top + 6)[0], 0x27F)
    _expect(struct.unpack_from("<i", unicorn.registers, layout.in_flight)[0], 13)
    return layout


def _find_error(unicorn: Unicorn, ram: Ram) -> int:
    """Load DS with selectors beyond the (empty) GDT: #GP(selector), SDM vol. 2, MOV."""
    ram.view[:2] = b"\x8e\xd8"  # mov ds, ax
    unicorn.map_ram(0, 4096, ram.address)
    unicorn.on_interrupt(lambda _vector: unicorn.stop())
    unicorn.write_register(REG_RAX, struct.pack("<Q", 0x99995670))
    unicorn.start(0, 1)
    unicorn.save()
    saved = bytes(unicorn.registers)
    words = struct.unpack(f"<{len(saved) // 4}I", saved)
    if words.count(0x5670) != 1:
        raise _unknown_layout()
    return 4 * words.index(0x5670)


def _find(saved: bytes, pattern: bytes) -> int:
    at = saved.find(pattern)
    if at < 0 or saved.find(pattern, at + 1) >= 0:
        raise _unknown_layout()
    return at


def _expect(value: int, wanted: int) -> None:
    if value != wanted:
        raise _unknown_layout()


def _unknown_layout() -> UnavailableError:
    return UnavailableError(
        "this build of Unicorn keeps its registers in an order that Ringscope does not know; "
        "the one on PyPI works: pip install --force-reinstall 'unicorn>=2.1.1,<3'"
    )
