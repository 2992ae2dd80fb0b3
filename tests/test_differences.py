"""The words in which a failing comparison is reported."""

from __future__ import annotations

from cores.machine.report import Divergence
from cores.x86.registers import STATE_NAMES
from cores.x86.virtual_cpu import VirtualCpu
from tests.differences import MOST_LINES, compared_in_words


def test_cpus_by_register() -> None:
    """A general register, flags, a segment's hidden part and a table are each named, with values in
    hex."""
    one, other = VirtualCpu(), VirtualCpu()
    other.gpr[3], other.rflags, other.segments[1].base, other.idtr.limit = 0x1F, 0x46, 16, 0xFFF
    other.debug[7] = 0x401
    assert compared_in_words(one, other) == [
        "two CPUs differ:", "rbx: 0x0 is not 0x1f", "rflags: 0x2 is not 0x46 (PF ZF)",
        "cs.base: 0x0 is not 0x10", "idtr.limit: 0x0 is not 0xfff", "dr7: 0x400 is not 0x401",
    ]  # fmt: skip


def test_register_files_by_name() -> None:
    """The tuples by which cores are compared are reported by register name."""
    one = VirtualCpu().state()
    other = list(one)
    other[STATE_NAMES.index("cr2")] = 0xB8000
    assert compared_in_words(one, tuple(other)) == [
        "two register files differ:", "cr2: 0x0 is not 0xb8000",
    ]  # fmt: skip


def test_fxsave_images_by_part() -> None:
    """Parts of an FXSAVE image are named; other bytes have their offset."""
    one = bytes(512)
    other = bytearray(one)
    other[24], other[8], other[160] = 0x80, 1, 7
    assert compared_in_words(one, other) == [
        "two FXSAVE images differ:", "mxcsr: 0x0 is not 0x80", "xmm0: 0x0 is not 0x7",
        "byte 8 of the image: 0x0 is not 0x1",
    ]  # fmt: skip


def test_bytes_by_offset() -> None:
    """Differing bytes have offset and values, in a bounded number of lines."""
    assert compared_in_words(b"0123456789abcdefgh", b"012xy56789abcdefghi") == [
        "two blocks of bytes differ:", "length: 18 is not 19", "at 0x3: 33 34 is not 78 79",
    ]  # fmt: skip
    many = compared_in_words(bytes(200), b"\x00\x01" * 100)
    assert many is not None
    assert len(many) == MOST_LINES + 2
    assert many[-1] == "... and 76 more"


def test_divergences_by_core() -> None:
    """A divergence has its place, instruction, and each core's value."""
    values = {"interpreter": {"rax": 1}, "trap:native": {"rax": 0x20}}
    divergence = Divergence(5, 0x100019, "inc eax", ("rax",), values)
    assert compared_in_words(divergence, None) == [
        "the cores diverge:", "after 5 instructions, by inc eax at 0x100019",
        "rax: 0x1 on interpreter, 0x20 on trap:native",
    ]  # fmt: skip


def test_other_values_are_left_to_pytest() -> None:
    """Short bytes, numbers, and values of different kinds are left to pytest."""
    assert compared_in_words(b"ab", b"ac") is None
    assert compared_in_words(1, 2) is None
    assert compared_in_words(VirtualCpu(), 5) is None
