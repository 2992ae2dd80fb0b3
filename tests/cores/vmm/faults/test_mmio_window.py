"""Devices in memory see each access of any instruction once, in its size and order."""

from __future__ import annotations

import pytest
from machine_lab import DATA, EXIT, TRAPS, booted, needs_assembler, run

from cores.machine.machine import Machine
from cores.pc.stop import Stop
from cores.x86.isa.instruction import Reason

pytestmark = needs_assembler

SCREEN = 0xB8000


def accesses(machine: Machine) -> list[tuple[str, int, int]]:
    """The accesses of the screen: (read or write, offset, bytes)."""
    seen: list[tuple[str, int, int]] = []
    read, write = machine.memory.device_read, machine.memory.device_write

    def reading(gpa: int, length: int) -> bytes:
        seen.append(("read", gpa - SCREEN, length))
        return read(gpa, length)

    def writing(gpa: int, data: bytes) -> None:
        seen.append(("write", gpa - SCREEN, len(data)))
        write(gpa, data)

    machine.memory.device_read = reading  # type: ignore[method-assign]
    machine.memory.device_write = writing  # type: ignore[method-assign]
    run(machine)
    assert machine.stop is Stop.EXIT, machine.vmm.reason
    return seen


CASES = {
    "mov [rdi], al": [("write", 0, 1)],
    "mov [rdi + 2], rax": [("write", 2, 8)],
    "mov eax, [rdi + 4]": [("read", 4, 4)],
    "add word ptr [rdi], 1": [("read", 0, 2), ("write", 0, 2)],
    "movups [rdi], xmm0": [("write", 0, 16)],
    "mov ecx, 3\nrep stosw": [("write", 0, 2), ("write", 2, 2), ("write", 4, 2)],
    "mov ecx, 2\nadd rdi, 8\nstd\nrep stosd\ncld": [("write", 8, 4), ("write", 4, 4)],
    f"mov esi, {DATA}\nmov ecx, 2\nrep movsb": [("write", 0, 1), ("write", 1, 1)],
    f"mov rsi, rdi\nmov edi, {DATA}\nmov ecx, 2\nrep movsw": [("read", 0, 2), ("read", 2, 2)],
    "mov ecx, 0\nrep stosb": [],
    "lea rdi, [rdi - 2]\nmov [rdi], eax": [("write", -2, 2), ("write", 0, 2)],
}


@pytest.mark.parametrize("core", TRAPS)
@pytest.mark.parametrize("source", CASES)
def test_accesses(core: str, source: str) -> None:
    """The device sees the accesses that a CPU would make on the bus."""
    with booted(core, f"mov edi, {SCREEN}\n{source}\n{EXIT}") as machine:
        assert accesses(machine) == CASES[source]


@pytest.mark.parametrize("core", TRAPS)
def test_one_exit_an_instruction(core: str) -> None:
    """A REP over the whole screen is one exit, and changes the screen."""
    source = f"mov edi, {SCREEN}\nmov ax, 0x0741\nmov ecx, 2000\nrep stosw\n{EXIT}"
    with booted(core, source) as machine:
        run(machine)
        assert machine.vmm.trace.by_reason[Reason.MMIO] == 1
        assert machine.board.screen() == "\n".join(["A" * 80] * 25)
        assert machine.board.accesses == 2001


@pytest.mark.parametrize("core", TRAPS)
def test_the_scratch_page_does_not_stay(core: str) -> None:
    """A store through a window is in the device, not in RAM, and is read back from there."""
    source = f"mov qword ptr [{SCREEN}], 0x41\nmov rbx, [{SCREEN}]\n{EXIT}"
    with booted(core, source) as machine:
        run(machine)
        assert machine.cpu.gpr[3] == 0x41
        assert bytes(machine.memory.view[SCREEN : SCREEN + 8]) == bytes(8)


@pytest.mark.parametrize("core", TRAPS)
def test_a_fault_midway(core: str) -> None:
    """A REP from the screen into a missing page reads only the bytes that were copied."""
    source = f"mov esi, {SCREEN}\nmov edi, {(2 << 20) - 4:#x}\nmov ecx, 4\nrep movsw\n"
    with booted(core, source) as machine:
        seen: list[int] = []
        read = machine.memory.device_read
        machine.memory.device_read = lambda gpa, n: (seen.append(gpa), read(gpa, n))[1]  # type: ignore[method-assign]
        run(machine)
        assert machine.stop is Stop.SHUTDOWN
        assert seen == [SCREEN, SCREEN + 2]
