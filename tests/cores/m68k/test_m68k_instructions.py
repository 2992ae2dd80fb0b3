"""Instructions of the 68000 against arithmetic in Python."""

from __future__ import annotations

import itertools

import pytest
from m68k_lab import RAM, STOP, machine, put, run

from cores.m68k.decode import decode, text
from cores.m68k.registers import C, N, V, X, Z
from cores.pc.stop import Stop

VALUES = (0, 1, 5, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
SIZES = {0: 8, 1: 16, 2: 32}


def flags(op: str, size: int, source: int, target: int, before: int) -> tuple[int, int]:
    """The result and XNZVC of ADD, SUB, CMP and AND (M68000PM/AD, table 3-18)."""
    bits = SIZES[size]
    mask, sign = (1 << bits) - 1, 1 << (bits - 1)
    s, t = source & mask, target & mask
    raw = {"add": t + s, "sub": t - s, "cmp": t - s, "and": t & s}[op]
    r = raw & mask
    carry = raw != r
    codes = (N if r & sign else 0) | (0 if r else Z)
    if op == "and":
        return r, codes | (before & X)
    over = (s ^ r) & (t ^ r) if op == "add" else (s ^ t) & (r ^ t)
    codes |= (V if over & sign else 0) | (C if carry else 0)
    codes |= (before & X) if op == "cmp" else (X if carry else 0)
    return (t if op == "cmp" else r), codes


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("op", "code"), [("add", 0xD001), ("sub", 0x9001), ("cmp", 0xB001), ("and", 0xC001)]
)
def test_condition_codes(op: str, code: int, size: int) -> None:
    """Result and flags are right for pairs of edge values, whatever the flags were before."""
    with machine(f"{code | size << 6:04x}") as m:
        for source, target in itertools.product(VALUES, VALUES):
            for before in (0, 0x1F):
                m.cpu.pc, m.cpu.d[0], m.cpu.d[1] = 0x1000, target, source
                m.cpu.set_sr(0x2700 | before)
                m.step()
                result, codes = flags(op, size, source, target, before)
                mask = (1 << SIZES[size]) - 1
                assert (m.cpu.d[0] & mask, m.cpu.sr) == (result, 0x2700 | codes), (source, target)
                assert m.cpu.d[0] & ~mask == target & ~mask


def test_a_chain_of_flags() -> None:
    """ADDX adds the X that ADD set one step before."""
    with machine("d081 d583", d0=0xFFFFFFFF, d1=1, d2=0, d3=0) as m:
        m.step()
        m.step()
        assert (m.cpu.d[0], m.cpu.d[2]) == (0, 1)


@pytest.mark.parametrize("number", range(16))
def test_conditions(number: int) -> None:
    """Bcc (our code) and Scc (Unicorn's) agree on each condition, for all flags."""
    with machine(f"5{number:x}c0 6{number:x}10") as m:
        for codes in range(16):
            m.cpu.pc = 0x1000
            m.cpu.set_sr(0x2700 | codes)
            m.step()
            taken = bool(m.cpu.d[0] & 0xFF)
            if number == 1:  # SF; BSR stands in the place of "branch never"
                assert not taken
                continue
            m.step()
            assert m.cpu.pc == (0x1014 if taken else 0x1004)


JUMPS = {
    "4ed0": 0x3000, "4ee8 0010": 0x3010, "4ef0 1002": 0x3022, "4ef0 1802": 0x3022, "4ef8 4000": 0x4000,
    "4ef9 0001 0000": 0x10000, "4efa 0020": 0x1022, "4efb 1002": 0x1024, "6000 0100": 0x1102,
    "60fe": 0x1000, "6102": 0x1004, "4e90": 0x3000, "4e75": 0x5678,
}  # fmt: skip


@pytest.mark.parametrize("words", JUMPS)
def test_jumps(words: str) -> None:
    """JMP works in every addressing mode, as do BRA, BSR, JSR (with the return address pushed) and
    RTS."""
    with machine(words, a0=0x3000, d1=0x20, a7=0x8000) as m:
        put(m, 0x8000, "0000 5678")
        m.step()
        assert m.cpu.pc == JUMPS[words]
        if words[:2] == "61" or words == "4e90":
            assert (m.cpu.a[7], m.bus.read(0x7FFC, 4)) == (0x7FFC, 0x1002)
            assert m.vmm.stored == ((0x7FFC, 4),)


def test_dbcc_counts_a_word() -> None:
    """DBRA runs one turn more than its counter, and keeps the upper half."""
    with machine(f"5280 51c9 fffc {STOP}", d1=0xABCD0003) as m:
        run(m)
        assert (m.cpu.d[0], m.cpu.d[1]) == (4, 0xABCDFFFF)


def test_addresses_have_24_bits() -> None:
    """The upper eight address bits are ignored for data, devices and code."""
    words = "3228 0000 3080 13fc 0041 7fff 0000 4ef9 7f00 2000"
    with machine(words, a0=0xAB003000, d0=0x1234) as m:
        put(m, 0x3000, "5555")
        put(m, 0x2000, STOP)
        run(m)
        assert m.cpu.d[1] & 0xFFFF == 0x5555
        assert m.bus.read(0x3000, 2) == 0x1234
        assert m.console() == "A"
        assert m.stop is Stop.HALTED


def test_code_that_changes_itself() -> None:
    """Stores over code, by the guest or by an exception's frame, take effect."""
    with machine(f"31fc 7007 1006 7001 {STOP}") as m:
        run(m)
        assert m.cpu.d[0] == 7


@pytest.mark.parametrize("words", ["f200", "f2e4", "f2ad", "fd27"])
def test_words_that_break_unicorns_translator(words: str) -> None:
    """Data behind an instruction, or at the target of a jump, is not translated."""
    with machine(f"4e71 60fe {words}") as m:
        run(m, budget=5)
        assert m.stop is Stop.BUDGET
    with machine(f"4e71 {words}", vector11=0x2000) as m:
        put(m, 0x2000, STOP)
        run(m)
        assert m.stop is Stop.HALTED


def test_a_stepped_sample_of_all_opcodes() -> None:
    """No opcode makes the host fail: each is executed, or raises the guest's exception."""
    with machine("4e71", **{f"vector{v}": 0x2000 for v in range(2, 48)}) as m:
        put(m, 0x2000, STOP)
        start = m.save()
        for opcode in range(0, 0x10000, 37):
            put(m, 0x1000, f"{opcode:04x} 0004 0000 3000 0000")
            m.restore(start)
            m.cpu.a[:] = [0x3000] * 7 + [RAM]
            m.vmm.budget = 3
            m.step()
            assert m.stop in (None, Stop.HALTED, Stop.BUDGET), (hex(opcode), m.vmm.reason)


@pytest.mark.parametrize(
    ("words", "shown", "length"),
    [
        ("41fa 005a", "lea.l $105c(pc), a0", 4),
        ("51c8 fffe", "dbra d0, $1000", 4),
        ("4e41", "trap #$1", 2),
        ("013c 00ff 1234", "btst.b d0, #$ff", 4),
        ("8b0a 0004", "sbcd -(a2), -(a5)", 2),
        ("4afc", "illegal", 2),
        ("a123", "dc.w $a123", 2),
        ("3030 1100", "dc.w $3030", 2),
    ],
)
def test_disassembly(words: str, shown: str, length: int) -> None:
    """The disassembly has Motorola's syntax with absolute targets; opcodes that no 68000 has are
    data."""
    insn = decode(bytes.fromhex(words).ljust(10, b"\0"))
    assert (text(insn, 0x1000), insn.length) == (shown, length)
