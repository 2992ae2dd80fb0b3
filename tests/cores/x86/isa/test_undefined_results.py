"""Undefined flags become 0, undefined destinations keep their value, and defined results stay."""

from __future__ import annotations

import pytest

from cores.x86.isa.decoder import decode
from cores.x86.isa.undefined_results import keeps_memory, settle
from cores.x86.registers import RAX, RBX, RCX, Flag
from cores.x86.virtual_cpu import VirtualCpu

CF, PF, AF, ZF, SF, OF = Flag.CF, Flag.PF, Flag.AF, Flag.ZF, Flag.SF, Flag.OF
ALL = CF | PF | AF | ZF | SF | OF


def cleared(code: str, rcx: int = 0) -> int:
    """The status flags that ``settle`` clears when the CPU left all of them set."""
    cpu = VirtualCpu(rflags=ALL | 2)
    cpu.gpr[RCX] = rcx
    settle(decode(bytes.fromhex(code)), list(cpu.gpr), 2, cpu)
    assert cpu.rflags & 2
    return ALL & ~cpu.rflags


@pytest.mark.parametrize(
    ("code", "flags"),
    [
        ("01 c8", 0), ("40 80 c0 01", 0), ("21 c8", AF), ("85 c8", AF), ("f7 e1", SF | ZF | AF | PF),
        ("0f af c1", SF | ZF | AF | PF), ("f7 f1", ALL), ("f7 f9", ALL), ("0f bc c1", ALL & ~ZF),
        ("0f ab c1", OF | SF | AF | PF), ("f3 0f b8 c1", 0), ("0f 22 d8", ALL), ("89 c8", 0),
        ("d1 e0", AF), ("c1 e0 03", AF | OF), ("c1 e0 00", 0), ("c1 e0 20", 0),
        ("c0 e0 08", AF | OF | CF),
        ("66 c1 e8 10", AF | OF | CF), ("c0 f8 08", AF | OF), ("48 c1 e0 20", AF | OF),
        ("d1 c0", 0), ("c1 c0 02", OF), ("c1 c0 20", 0), ("c0 d0 09", OF), ("c0 d0 21", 0),
        ("0f a4 c8 00", 0), ("0f a4 c8 01", AF), ("0f a4 c8 04", AF | OF), ("66 0f a4 c8 11", ALL),
    ],
)  # fmt: skip
def test_flags(code: str, flags: int) -> None:
    """The flags set to 0 follow instruction, operand size and masked count, as on each page of SDM vol.
    2."""
    assert cleared(code) == flags


@pytest.mark.parametrize(
    ("rcx", "flags"), [(0, 0), (1, AF), (2, AF | OF), (32, 0), (33, AF), (0xFF00, 0)]
)
def test_count_in_cl_is_masked(rcx: int, flags: int) -> None:
    """SHL EAX, CL uses five bits of CL, and a count of 0 changes no flag."""
    assert cleared("d3 e0", rcx) == flags


def test_the_count_is_taken_from_before() -> None:
    """SHL CL, CL uses the count from before the instruction."""
    cpu = VirtualCpu(rflags=ALL)
    before = [0, 3, *[0] * 14]
    settle(decode(bytes.fromhex("d2 e1")), before, 0, cpu)
    assert cpu.rflags == ALL & ~(AF | OF)


@pytest.mark.parametrize("code", ["0f bc d9", "0f bd d9", "48 0f bc d9", "66 0f bd d9"])
def test_bit_scan_of_zero_keeps_the_destination(code: str) -> None:
    """A bit scan of 0 keeps all 64 bits of the destination, also with 32-bit operands."""
    cpu = VirtualCpu(rflags=int(ZF))
    cpu.gpr[RBX] = 0
    before = list(cpu.gpr)
    before[RBX] = 0x1122334455667788
    settle(decode(bytes.fromhex(code)), before, 0, cpu)
    assert cpu.gpr[RBX] == 0x1122334455667788
    cpu = VirtualCpu(rflags=0)
    cpu.gpr[RBX] = 5
    settle(decode(bytes.fromhex(code)), before, 0, cpu)
    assert cpu.gpr[RBX] == 5


def test_bswap_and_double_shift_of_sixteen_bits() -> None:
    """BSWAP of 16 bits and SHLD by more than 16 keep the destination."""
    for code in ("66 0f c8", "66 0f a4 c8 11", "66 0f ac c8 1f"):
        cpu = VirtualCpu()
        cpu.gpr[RAX] = 0xDEAD
        settle(decode(bytes.fromhex(code)), [0x123456789ABCDEF0, *[0] * 15], 0, cpu)
        assert cpu.gpr[RAX] == 0x123456789ABCDEF0


def test_memory_that_must_be_kept() -> None:
    """Only a 16-bit double shift by more than 16 leaves memory undefined."""
    gpr = [0] * 16
    assert keeps_memory(decode(bytes.fromhex("66 0f a4 0b 11")), gpr)
    assert not keeps_memory(decode(bytes.fromhex("66 0f a4 0b 10")), gpr)
    assert not keeps_memory(decode(bytes.fromhex("0f a4 0b 11")), gpr)
    assert not keeps_memory(decode(bytes.fromhex("66 0f a4 c8 11")), gpr)
    gpr[RCX] = 0x35
    assert keeps_memory(decode(bytes.fromhex("66 0f ad 03")), gpr)


@pytest.mark.parametrize("equal", [True, False])
def test_cmpxchg_of_32_bits(equal: bool) -> None:
    """The operand that keeps its value keeps its upper half, too, on every core."""
    old = 0xAAAAAAAA00000007
    before = [old, 1, 0, old, *[0] * 12]
    cpu = VirtualCpu(gpr=[7, 1, 0, 7, *[0] * 12], rflags=int(ZF) if equal else 0)
    settle(decode(bytes.fromhex("0f b1 cb")), before, 0, cpu)
    assert (cpu.gpr[RAX], cpu.gpr[RBX]) == ((old, 7) if equal else (7, old))
