"""The random programs are reproducible, assemble, and consist of ordinary instructions."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from straightline import floating, floating_programs, integer, programs

from cores.programs.assembler import keystone as assembler
from cores.x86.isa.decoder import decode
from cores.x86.isa.instruction import Instruction, Sensitivity

pytestmark = pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")

END = ["mov", "out", "cli", "hlt"]


def decoded(source: str) -> list[Instruction]:
    code, at, result = assembler.assemble(source, "random.s", 0x100000).code, 0, []
    while at < len(code):
        result.append(decode(code[at : at + 15]))
        at += result[-1].length
    return result


@pytest.mark.parametrize("make", [integer, floating])
def test_the_same_seed_gives_the_same_program(make) -> None:
    """A seed, by which failures are reported, always gives the same program."""
    assert make(Random(7)) == make(Random(7)) != make(Random(8))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [integer, floating])
def test_everything_before_the_end_is_ordinary(make, seed: int) -> None:
    """Only the exit write and the code behind it are sensitive."""
    instructions = decoded(make(Random(seed), 150))
    assert [i.mnemonic for i in instructions[-4:]] == END
    assert all(i.sensitivity is Sensitivity.ORDINARY for i in instructions[:-4])
    assert not any(i.ends_block for i in instructions[:-4])


def test_the_generators_reach_all_their_kinds() -> None:
    """A few long programs contain every kind of instruction on which cores could differ."""
    seen = {i.mnemonic for seed in range(3) for i in decoded(integer(Random(seed), 400))}
    assert seen >= {
        "add", "sbb", "shl", "sar", "rcl", "rcr", "shld", "mul", "imul", "div", "idiv", "bsf", "bsr",
        "bt", "btc", "cmpxchg", "cmpxchg8b", "cmpxchg16b", "xadd", "xchg", "bswap", "push", "pop",
        "enter", "leave", "movs", "stos", "cmps", "scas", "lods", "lahf", "sahf", "xlat", "movsxd",
    }  # fmt: skip


@settings(max_examples=10, deadline=None)
@given(programs())
def test_integer_strategy_assembles(source: str) -> None:
    """Integer programs drawn by Hypothesis assemble."""
    assert decoded(source)[-1].mnemonic == "hlt"


@settings(max_examples=10, deadline=None)
@given(floating_programs())
def test_floating_strategy_assembles(source: str) -> None:
    """Floating-point programs drawn by Hypothesis assemble."""
    assert decoded(source)[-1].mnemonic == "hlt"
