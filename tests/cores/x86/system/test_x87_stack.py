"""x87 stack faults, from the tags: the instructions that meet one, and the masked response."""

from __future__ import annotations

import struct

import pytest

from cores.x86.isa.encoding import parse
from cores.x86.system.x87_stack import INDEFINITE, Stack, deliver, effect, stored_indefinite

ONE = bytes.fromhex("00000000000000 80ff3f")


def stack(used: int, top: int = 0, control: int = 0x37F) -> Stack:
    """``used``: the abridged tag word, by register number."""
    head = struct.pack("<HHB", control, top << 11, used).ljust(32, b"\0")
    return Stack(head + ONE.ljust(16, b"\0") * 8 + bytes(512 - 160))


def faults(code: str, used: int) -> bool:
    what = effect(parse(bytes.fromhex(code) + bytes(13)))
    return what is not None and stack(used).faults(what)


@pytest.mark.parametrize(
    ("code", "used", "expected"),
    [
        ("d8c1", 0b11, False), ("d8c1", 0b01, True), ("d8c1", 0b10, True),  # fadd st, st(1)
        ("d9c1", 0b10, False), ("d9c1", 0b01, True), ("d9c0", 0x81, True),  # fld: ST(7) in use
        ("d9e8", 0x7F, False), ("d9e8", 0x80, True), ("db00", 0x80, True),  # fld1, fild
        ("dbf1", 0b01, True), ("dfe9", 0b11, False), ("dae9", 0b01, True),  # fcomi, fucomip, fucompp
        ("dd10", 0b10, True), ("dd10", 0b01, False), ("df30", 0, True),  # fst, fbstp
        ("d9f2", 0x81, True), ("d9f2", 0x01, False), ("d9fb", 0, True),  # fptan, fsincos
        ("d9d0", 0, False), ("d9e5", 0, False), ("ddc1", 0, False), ("dbe3", 0, False),
    ],
)  # fmt: skip
def test_who_meets_a_stack_fault(code: str, used: int, expected: bool) -> None:
    """Reading an empty register or pushing onto a used one faults; FNOP, FXAM, FFREE and FNINIT do
    not."""
    assert faults(code, used) is expected


def answered(code: str, used: int) -> Stack:
    what = effect(parse(bytes.fromhex(code) + bytes(13)))
    assert what is not None
    after = stack(used)
    assert after.invalid(overflow=what.pushes and after.used(7))
    deliver(after, what)
    return after


def test_results_are_indefinite() -> None:
    """The destination is the QNaN; TOP and tags change as usual (SDM vol. 1, table 8-10)."""
    added = answered("dec1", 0b01)  # faddp st(1), st
    assert (added.get(0), added.top, added.tags) == (INDEFINITE, 1, 0b10)
    loaded = answered("d9e8", 0xFF)
    assert (loaded.get(0), loaded.get(1), loaded.top, loaded.status & 0x241) == (
        INDEFINITE,
        ONE,
        7,
        0x241,
    )
    exchanged = answered("d9c9", 0b01)  # fxch st(1)
    assert (exchanged.get(0), exchanged.get(1), exchanged.tags) == (INDEFINITE, ONE, 0b11)
    compared = answered("ded9", 0b01)  # fcompp
    assert (compared.status & 0x4500, compared.top, compared.tags) == (0x4500, 2, 0)


def test_unmasked_nothing_but_the_status_changes() -> None:
    """Unmasked, ES and B are set, and no result is stored."""
    after = stack(0, control=0x37E)
    assert not after.invalid(overflow=False)
    assert (after.status, after.tags, after.image()[32:42]) == (0x80C1, 0, ONE)


@pytest.mark.parametrize(
    ("code", "size", "stored"),
    [
        ("d910", 4, "0000c0ff"), ("dd18", 8, "000000000000f8ff"), ("db38", 10, "00000000000000c0ffff"),
        ("df30", 10, "00000000000000c0ffff"), ("df10", 2, "0080"), ("db18", 4, "00000080"),
        ("df38", 8, "0000000000000080"), ("dd08", 8, "0000000000000080"),
    ],
)  # fmt: skip
def test_what_an_empty_register_stores(code: str, size: int, stored: str) -> None:
    """An empty register stores the indefinite real, integer or packed decimal (SDM vol. 1, 4.2 and
    4.7)."""
    assert stored_indefinite(parse(bytes.fromhex(code) + bytes(13)), size).hex() == stored
