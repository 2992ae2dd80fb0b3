"""The first divergence is found and named by instruction, place, difference and core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from machine_lab import DATA, EXIT, booted, needs_assembler

from cores.lockstep.comparison import STALE, Lockstep
from cores.machine.machine import Machine

pytestmark = needs_assembler

SOURCE = (
    f"""
    mov rax, 1
    mov rbx, {DATA}
    add rax, rbx
    mov [rbx], rax
    mov ecx, [rbx + 0x800]
    movq xmm3, rax
    paddd xmm3, xmm3
    nop
    mov al, 'x'
    out 0xe9, al
    nop
"""
    + EXIT
)
ADD, STORE, LOAD, PADDD, OUT = 2, 3, 4, 6, 9


@pytest.fixture(params=["trap:portable", "trap:native"])
def pair(request: pytest.FixtureRequest) -> Iterator[list[Machine]]:
    """The interpreter and a trap core with the same program."""
    with ExitStack() as stack:
        yield [stack.enter_context(booted(core, SOURCE)) for core in ("interpreter", request.param)]


def go(
    pair: list[Machine], before: int = -1, poke: Callable[[Machine], None] = lambda machine: None
) -> Lockstep:
    """Run in lockstep to the end; ``poke`` changes the second machine before that instruction."""
    compared = Lockstep(list(pair))
    while compared.divergence is None and any(m.stop is None for m in pair):
        if pair[0].vmm.instructions == before:
            poke(pair[1])
        for machine in pair:
            machine.step()
        compared.after_step()
    compared.at_end()
    return compared


def test_equal_machines(pair: list[Machine]) -> None:
    """Every step of equal machines is compared, without a divergence."""
    compared = go(pair)
    assert compared.divergence is None
    assert compared.compared == pair[0].vmm.instructions


def test_a_register(pair: list[Machine]) -> None:
    """A register that differs is named with the instruction just executed, and both values."""

    def poke(machine: Machine) -> None:
        machine.cpu.gpr[3] ^= 8

    divergence = go(pair, ADD, poke).divergence
    assert divergence is not None
    assert (divergence.instruction, divergence.asm) == (ADD, "add rax, rbx")
    assert divergence.differs == ("rax", "rbx", "rflags")
    assert divergence.values["interpreter"]["rbx"] == DATA
    assert divergence.values[pair[1].core]["rbx"] == DATA ^ 8


def test_stored_memory(pair: list[Machine]) -> None:
    """A store that writes another byte is found at the store."""
    compared = Lockstep(list(pair))
    for _ in range(STORE + 1):
        for machine in pair:
            machine.step()
        if pair[0].vmm.instructions == STORE + 1:
            pair[1].memory.view[DATA + 2] ^= 1
        compared.after_step()
    assert compared.divergence is not None
    assert compared.divergence.differs == (f"mem:{DATA + 2:#x}",)
    assert compared.divergence.asm == "mov qword ptr [rbx], rax"


def test_a_page_written_before(pair: list[Machine]) -> None:
    """A byte that differs beside the stored ones is found at the next exit, where written pages are
    compared."""

    def poke(machine: Machine) -> None:
        machine.memory.view[DATA + 0xFF0] = 1

    divergence = go(pair, PADDD, poke).divergence
    assert divergence is not None
    assert divergence.differs == (f"mem:{DATA + 0xFF0:#x}",)
    assert divergence.instruction == OUT


def test_a_byte_in_untouched_ram(pair: list[Machine]) -> None:
    """A byte that differs in untouched RAM is found at the end."""

    def poke(machine: Machine) -> None:
        machine.memory.view[0x90007] = 1

    divergence = go(pair, PADDD, poke).divergence
    assert divergence is not None
    assert (divergence.differs, divergence.asm) == (("mem:0x90007",), None)
    assert divergence.values["interpreter"]["mem:0x90007"] == 0


def test_memory_behind_the_hole(pair: list[Machine]) -> None:
    """Reported addresses are physical, though the hole is left out of the comparison."""

    def poke(machine: Machine) -> None:
        machine.memory.view[0x180000] = 1

    divergence = go(pair, PADDD, poke).divergence
    assert divergence is not None
    assert divergence.differs == ("mem:0x180000",)


def test_an_xmm_register(pair: list[Machine]) -> None:
    """x87 and SSE state is compared after the instructions that use it."""

    def poke(machine: Machine) -> None:
        image = bytearray(machine.engine.read_fpu())
        image[160 + 16 * 3] ^= 2
        machine.engine.write_fpu(bytes(image))

    divergence = go(pair, PADDD, poke).divergence
    assert divergence is not None
    assert (divergence.asm, divergence.differs) == ("paddd xmm3, xmm3", ("xmm3",))


def test_the_console(pair: list[Machine]) -> None:
    """Different console output is a divergence at the OUT."""

    def poke(machine: Machine) -> None:
        machine.board.console += b"?"

    divergence = go(pair, OUT, poke).divergence
    assert divergence is not None
    assert (divergence.asm, divergence.differs) == ("out 0xe9, al", ("console",))


def test_accessed_and_dirty_bits_are_the_cpus_own(pair: list[Machine]) -> None:
    """A and D bits of page-table entries may differ; the same bits elsewhere are a divergence."""

    def poke(machine: Machine) -> None:
        machine.memory.view[0x15000 + 8 * 0x60] ^= 0x60

    assert go(pair, PADDD, poke).divergence is None


def test_nothing_is_compared_after_a_divergence(pair: list[Machine]) -> None:
    """After the first divergence nothing more is compared."""

    def poke(machine: Machine) -> None:
        machine.cpu.gpr[3] ^= 8

    compared = go(pair, ADD, poke)
    assert compared.divergence is not None
    assert compared.compared == ADD
    assert all(m.memory.writes is None and not m.vmm.watching for m in pair)


def test_leaving(pair: list[Machine]) -> None:
    """A machine that leaves is no longer compared; the others go on."""
    compared = Lockstep(list(pair))
    pair[1].cpu.gpr[3] ^= 8
    compared.leave([pair[1]])
    for _ in range(3):
        for machine in pair:
            machine.step()
        compared.after_step()
    assert compared.divergence is None
    assert compared.machines == [pair[0]]


@pytest.mark.parametrize(("then", "lawful"), [("nop", True), ("invlpg [0x30000]", False)])
def test_a_translation_that_may_be_old_is_remarked(then: str, lawful: bool) -> None:
    """A difference after a store to a page table says that both results may be right, until the guest
    has executed INVLPG."""
    source = f"mov rax, 0x31003\nmov [0x15180], rax\n{then}\nmov ebx, 1\n" + EXIT
    with ExitStack() as stack:
        both = [stack.enter_context(booted(c, source)) for c in ("interpreter", "trap:portable")]

        def poke(machine: Machine) -> None:
            machine.cpu.gpr[6] ^= 1

        divergence = go(both, 3, poke).divergence
    assert divergence is not None
    assert divergence.remark == (STALE if lawful else "")
