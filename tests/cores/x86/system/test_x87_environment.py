"""The x87 environment is stored and loaded as by the platform's CPU, whatever this host's CPU."""

from __future__ import annotations

import struct

import pytest

from cores.x86.system import x87_environment as x87

PENDING = struct.pack("<HHBxHQQII", 0x37B, 0xB884, 0x80, 0xB5, 0x100018, 0x50100, 0x1F80, 0xFFFF)
"""FLD1, then FDIV by 0 with ZE unmasked, recorded on an AMD EPYC. Intel's CPUs store the same: derived
from SDM vol. 1, 8.1.8."""
INTEL = struct.pack("<HHBxHQQII", 0x37F, 0x3000, 0xC0, 0x545, 0x100009, 0x50100, 0x1F80, 0xFFFF)
AMD = struct.pack("<HHBxHQQII", 0x37F, 0x3000, 0xC0, 0, 0, 0, 0x1F80, 0x2FFFF)
"""FLD1 and FLD, nothing pending. INTEL is derived from SDM vol. 1, 8.1.8 and 10.5.1: pointers and
opcode are always stored, MXCSR_MASK is 0xFFFF. AMD was recorded on an EPYC."""
ONE = bytes.fromhex("00000000000000 80ff3f")


def image(head: bytes, *registers: bytes) -> bytes:
    return (head + b"".join(r.ljust(16, b"\0") for r in registers)).ljust(512, b"\0")


def test_both_vendors_images_become_one() -> None:
    """Pointers that only Intel keeps, and the bit of MXCSR that only AMD has, are cleared."""
    assert x87.lawful(image(INTEL, ONE, ONE)) == x87.lawful(image(AMD, ONE, ONE))


def test_pointers_are_kept_while_an_exception_is_pending() -> None:
    """While an exception is pending, instruction, operand and opcode are kept for the #MF handler."""
    held = x87.lawful(image(PENDING, ONE))
    assert held[:28] == PENDING[:28]
    assert x87.pending(held)
    assert x87.environment(held, short=False).hex(" ", 4) == (
        "7b03ffff 84b8ffff ff3fffff 18001000 0000b500 00010500 0000ffff"
    )
    assert x87.environment(held, short=True).hex(" ", 2) == "7b03 84b8 ff3f 1800 0000 0001 0000"


@pytest.mark.parametrize(
    ("loaded", "held"), [(0xFFFF, 0x1F7F), (0, 0x40), (0x37F, 0x37F), (0xE080, 0x40)]
)
def test_reserved_bits_of_the_control_word(loaded: int, held: int) -> None:
    """Bit 6 of FCW reads 1; bits 7 and 13 to 15 read 0."""
    control = x87.lawful(struct.pack("<H", loaded).ljust(512, b"\0"))[:2]
    assert int.from_bytes(control, "little") == held


@pytest.mark.parametrize(("status", "held"), [(0x8080, 0), (0x0001, 0x8081), (0xFFFF, 0xFFFF)])
def test_summary_follows_the_exceptions(status: int, held: int) -> None:
    """ES and B follow the unmasked flags, whatever was loaded."""
    assert struct.unpack_from(
        "<H", x87.lawful(struct.pack("<HH", 0x340, status).ljust(512, b"\0")), 2
    ) == (held,)


@pytest.mark.parametrize("short", [False, True])
def test_an_environment_comes_back(short: bool) -> None:
    """Storing and loading keeps all but the opcode of the short form; FSW.TOP renames registers and
    moves none."""
    held = x87.lawful(image(PENDING, ONE))
    fresh = image(INTEL, *(bytes([number]) * 10 for number in range(8)))
    back = x87.with_environment(fresh, x87.environment(held, short=short))
    assert back[:2] + back[4:6] == held[:2] + held[4:6]
    assert x87.opcode_of(back) == (0 if short else 0xB5)
    assert [back[at] for at in range(32, 160, 16)] == [1, 2, 3, 4, 5, 6, 7, 0]  # from TOP 6 to TOP 7


def test_tags_tell_what_the_registers_hold() -> None:
    """Tags are valid, zero, special (infinity, denormal, unnormal) or empty by the registers'
    contents."""
    values = (ONE, bytes(10), bytes(7) + b"\x80\xff\x7f", b"\1" + bytes(9), b"\1" + bytes(7) + b"\1\0")
    head = struct.pack("<HHBxHQQII", 0x37F, 0, 0x1F, 0, 0, 0, 0x1F80, 0xFFFF)
    tags = struct.unpack_from("<H", x87.environment(image(head, *values), short=False), 8)[0]
    assert [tags >> 2 * i & 3 for i in range(8)] == [
        x87.VALID, x87.ZERO, x87.SPECIAL, x87.SPECIAL, x87.SPECIAL, *[x87.EMPTY] * 3
    ]  # fmt: skip
