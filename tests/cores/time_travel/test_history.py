"""History: any past instruction again, with its registers, memory, devices and console."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
from machine_lab import CORES, DATA, EXIT, TRAPS, booted, needs_assembler

from cores.machine.machine import Machine
from cores.pc.ram import CHUNK, Ram
from cores.pc.stop import Stop
from cores.time_travel import history
from cores.time_travel.history import History, Past
from cores.x86.mmu.paging import PAGE

pytestmark = needs_assembler

SOURCE = (
    f"""
    fninit
turn:
    inc rbx
    mov rax, rbx
    imul rax, rax, 0x123
    mov [{DATA} + rax], rbx
    movq xmm1, rax
    paddd xmm2, xmm1
    mov al, bl
    out 0xe9, al
    mov word ptr [0xb8000 + rbx * 2], ax
    cmp rbx, 60
    jb turn
"""
    + EXIT
)

TYPING = """
    xor ebx, ebx
wait:
    in al, 0x64
    inc ebx
    test al, 1
    jz wait
    in al, 0x60
    out 0xe9, al
    jmp wait
"""


def seen(machine: Machine) -> tuple[object, ...]:
    """All visible state of a machine."""
    return (
        machine.vmm.instructions, machine.cpu.state(), machine.engine.read_fpu(), machine.console(),
        machine.board.screen(), machine.stop, machine.memory_image(),
        dict(machine.vmm.trace.by_reason), machine.vmm.ticks,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints close together, so that short runs have many."""
    monkeypatch.setattr(history, "INTERVAL", 50)


def floating(core: str) -> str:
    """The source, without SSE where KVM lacks it in ring 0."""
    if core != "kvm":
        return SOURCE
    return "\n".join(line for line in SOURCE.splitlines() if "xmm" not in line and "fninit" not in line)


@pytest.mark.parametrize("core", CORES)
def test_seek_to_and_fro(core: str) -> None:
    """Seeks in any order restore each state as it was the first time."""
    with booted(core, floating(core)) as machine:
        past, first = History(machine), {}
        while machine.stop is None:
            first[machine.vmm.instructions] = seen(machine)
            past.step()
        end = seen(machine)
        places = Random(5).sample(sorted(first), 25)
        for place in [*places, 0, max(first)]:
            past.seek(place)
            assert seen(machine) == first[place]
        past.seek(10**9)
        assert seen(machine) == end


@pytest.mark.parametrize("core", ["interpreter", "trap:native"])
def test_old_checkpoints_are_merged(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few checkpoints the past is as exact, and takes longer to reach."""
    monkeypatch.setattr(history, "MAX_CHECKPOINTS", 6)
    monkeypatch.setattr(history, "MAX_UNDO", 8 << 12)
    with booted(core, SOURCE) as machine:
        past, first = History(machine), {}
        while machine.stop is None:
            first[machine.vmm.instructions] = seen(machine)
            past.step()
        for place in (600, 77, 300, 301, 0, 512):
            past.seek(place)
            assert seen(machine) == first[place]


@pytest.mark.parametrize("core", ["interpreter", "trap:portable"])
def test_typed_text_comes_again(core: str) -> None:
    """Typed text is repeated at its instruction; typing in the past begins another future."""
    with booted(core, TYPING) as machine:
        past = History(machine)
        past.seek(120)
        past.type_text(b"a")
        past.seek(400)
        typed = seen(machine)
        assert machine.console()
        past.seek(60)
        assert machine.console() == ""
        past.seek(400)
        assert seen(machine) == typed
        past.seek(100)
        past.type_text(b"b")
        past.seek(400)
        assert seen(machine) != typed
        assert [text for _, text in past.typed] == [b"b"]


def test_a_poke_comes_again() -> None:
    """An edited register is edited again whenever that moment is passed."""
    with booted("interpreter", SOURCE) as machine:
        past = History(machine)
        past.seek(100)
        past.poke(lambda: machine.cpu.gpr.__setitem__(9, 0x1234))
        past.seek(200)
        changed = seen(machine)
        past.seek(50)
        assert machine.cpu.gpr[9] == 0
        past.seek(200)
        assert seen(machine) == changed
        assert machine.cpu.gpr[9] == 0x1234


class Writer:
    """A machine whose guest writes to so many pages, in turn, between two checkpoints."""

    def __init__(self, pages: int, at_once: int) -> None:
        self.memory = Block(pages)
        self.vmm = Count()
        self.stop = None
        self.at_once = at_once

    def step(self) -> None:
        self.vmm.instructions += history.INTERVAL
        turn = self.vmm.instructions // history.INTERVAL
        for page in range(turn * self.at_once, (turn + 1) * self.at_once):
            self.memory.view[page * PAGE % self.memory.size] = turn % 251 + 1

    def type_text(self, text: bytes) -> None:
        raise AssertionError("nobody types")

    def save(self) -> Count:
        return Count(self.vmm.instructions)

    def restore(self, state: Count) -> None:
        self.vmm.instructions = state.instructions


class Block:
    def __init__(self, pages: int) -> None:
        self.size = pages * PAGE
        self.ram = Ram(-(-self.size // CHUNK) * CHUNK)
        self.view = self.ram.view


@dataclass
class Count:
    instructions: int = 0


@pytest.mark.parametrize(
    ("pages", "at_once"),
    [(400, 9), (400, 90), (50, 9), pytest.param(4000, 90, marks=pytest.mark.full)],
)
def test_the_past_is_bounded_and_stays_dense(
    pages: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound on memory holds, the newest checkpoints stay close together, and each checkpoint can be
    restored exactly."""
    monkeypatch.setattr(history, "MAX_UNDO", 100 * PAGE)
    writer = Writer(pages, at_once)
    past: Past[Count] = Past(writer)
    images = {0: bytes(writer.memory.view)}
    for _ in range(200):
        past.step()
        images[writer.vmm.instructions] = bytes(writer.memory.view)
    checkpoints = past._checkpoints
    assert sum(checkpoint.size for checkpoint in checkpoints) <= 100 * PAGE
    newest = [checkpoint.instructions for checkpoint in checkpoints[-(50 // at_once) - 2 :]]
    assert all(b - a == history.INTERVAL for a, b in pairwise(newest[1:]))
    assert len(newest) >= 2
    for there in [checkpoint.instructions for checkpoint in checkpoints]:
        past.seek(there)
        assert writer.vmm.instructions == there
        assert bytes(writer.memory.view) == images[there]
    past.seek(0)
    assert writer.vmm.instructions == past.begins


def test_memory_that_was_empty_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that fills its RAM once can be taken back to its beginning."""
    monkeypatch.setattr(history, "MAX_UNDO", 100 * PAGE)
    past: Past[Count] = Past(Writer(4000, 90))
    for _ in range(40):
        past.step()
    assert past.begins == 0
    assert len(past._checkpoints) == 41


def test_an_excursion_ends_where_it_began() -> None:
    """After an excursion all state is as before; a machine that had stopped without completing an
    instruction is still stopped."""
    with booted("interpreter", "inc eax\nmov [0x50000], eax\nud2") as machine:
        past = History(machine)
        past.seek(1000)
        before = seen(machine)
        assert machine.stop is Stop.SHUTDOWN
        with past.excursion():
            past.seek(1)
            assert machine.stop is None
        assert seen(machine) == before


@pytest.mark.parametrize("core", TRAPS)
@pytest.mark.parametrize("changes", [True, False])
def test_the_virtual_tlb_counts(core: str, changes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TLB held by one checkpoint counts towards the bound and thins the past; one shared by many
    counts once."""
    monkeypatch.setattr(history, "INTERVAL", 50)
    monkeypatch.setattr(history, "ENTRY", history.MAX_UNDO // 4)
    turn = "mov cr3, rax\n" if changes else "nop\n"
    with booted(core, f"mov rax, cr3\nmov cr3, rax\nturn: {turn}inc rbx\njmp turn") as machine:
        past = History(machine)
        past.seek(1000)
        shadows = [checkpoint.state.vmm.shadow for checkpoint in past._checkpoints]
        assert shadows[-1] is not None
        assert shadows[-1].entries
        assert len(shadows) < 10 if changes else len(shadows) == 21
        assert past._size() <= history.MAX_UNDO
        past.seek(500)
        assert machine.cpu.gpr[3] == (500 - 2) // 3
