"""State that an engine carries from step to step, and its closing."""

from __future__ import annotations

import struct

from contract_guest import CODE, DATA, Guest, open_guest

from cores.pc.platform import INITIAL_FPU
from cores.x86.registers import FS, RAX


def test_fpu_round_trip(guest: Guest) -> None:
    """x87 and SSE state is read back as it was written."""
    image = bytearray(512)
    struct.pack_into("<HHB", image, 0, 0x27F, 0x3800 | 0x4100, 0xFF)
    struct.pack_into("<II", image, 24, 0x1FA0, 0xFFFF)
    for i in range(8):
        image[32 + 16 * i : 42 + 16 * i] = bytes(range(16 * i + 1, 16 * i + 9)) + b"\x00\x40"
    for i in range(16):
        image[160 + 16 * i : 176 + 16 * i] = bytes(range(i, i + 16))
    guest.engine.write_fpu(bytes(image))
    assert guest.engine.read_fpu() == bytes(image)


def test_sse_is_the_guests(stepping: Guest) -> None:
    """SSE instructions use the written state, and their results are read back."""
    image = bytearray(INITIAL_FPU)
    struct.pack_into("<2d", image, 160, 1.5, 0.0)
    struct.pack_into("<2d", image, 176, 2.25, 0.0)
    stepping.engine.write_fpu(bytes(image))
    stepping.code(b"\xf2\x0f\x58\xc1")  # addsd xmm0, xmm1
    stepping.steps()
    after = stepping.engine.read_fpu()
    assert struct.unpack_from("<d", after, 160) == (3.75,)
    assert struct.unpack_from("<I", after, 24) == (0x1F80,)


def test_sticky_exception_flags(stepping: Guest) -> None:
    """An inexact result sets PE in MXCSR, and PE stays set."""
    image = bytearray(INITIAL_FPU)
    struct.pack_into("<d", image, 160, 1.0)
    struct.pack_into("<d", image, 176, 3.0)
    stepping.engine.write_fpu(bytes(image))
    stepping.code(b"\xf2\x0f\x5e\xc1" + b"\x90" + b"\x0f\xae\x1e")  # divsd; nop; stmxcsr [rsi]
    stepping.cpu.gpr[6] = DATA
    stepping.steps(3)
    assert struct.unpack_from("<I", stepping.engine.read_fpu(), 24) == (0x1FA0,)
    assert stepping.memory.read(DATA, 4) == struct.pack("<I", 0x1FA0)


def test_x87(stepping: Guest) -> None:
    """x87 instructions move the stack as FXSAVE shows it."""
    stepping.code(b"\xd9\xe8\xd9\xeb\xde\xc1")  # fld1; fldpi; faddp
    stepping.steps(3)
    control, status, tags = struct.unpack_from("<HHB", stepping.engine.read_fpu(), 0)
    assert (control, status >> 11 & 7, tags) == (0x37F, 7, 0x80)
    significand, exponent = struct.unpack_from("<QH", stepping.engine.read_fpu(), 32)
    assert exponent == 0x4001
    assert abs(significand / (1 << 61) - 4.14159265358979) < 1e-12


def test_segment_bases(stepping: Guest) -> None:
    """The FS base is added to addresses."""
    stepping.memory.write(DATA + 8, b"\x77")
    stepping.cpu.segments[FS].base = DATA
    stepping.code(b"\x64\x48\x8b\x04\x25\x08\x00\x00\x00")  # mov rax, fs:[8]
    stepping.steps()
    assert stepping.cpu.gpr[RAX] == 0x77
    assert stepping.cpu.segments[FS].base == DATA


def test_two_engines_do_not_meet(guest: Guest) -> None:
    """Two machines of one kind have separate states."""
    name = guest.engine.traits.core
    other = open_guest(name)
    try:
        image = bytearray(INITIAL_FPU)
        image[160] = 9
        other.engine.write_fpu(bytes(image))
        other.code(b"\x90", at=DATA)
        guest.code(b"\x90")
        assert guest.engine.read_fpu()[160] == 0
        assert (guest.cpu.rip, other.cpu.rip) == (CODE, DATA)
    finally:
        other.engine.close()
        other.engine.close()
        other.memory.ram.close()


def test_closed_twice(guest: Guest) -> None:
    """A second close has no effect."""
    guest.engine.close()
    guest.engine.close()
