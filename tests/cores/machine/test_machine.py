"""A machine as a whole: saved and restored, its memory image, its report, its release."""

from __future__ import annotations

from typing import Any

import pytest
from machine_lab import CORES, DATA, EXIT, RAM, booted, needs_assembler, program, run

from cores.engines.registry import availability
from cores.engines.scripted import ScriptedEngine
from cores.errors import EngineError, UnavailableError
from cores.machine.machine import Machine
from cores.pc.ram import Ram
from cores.pc.stop import Stop

pytestmark = needs_assembler

COUNTING = (
    f"""
turn:
    inc rbx
    mov [{DATA} + rbx * 8], rbx
    mov al, 'x'
    out 0xe9, al
    cmp rbx, 40
    jb turn
"""
    + EXIT
)


@pytest.mark.parametrize("core", CORES)
def test_save_and_restore(core: str) -> None:
    """After a restore the same future follows, RAM included."""
    with booted(core, COUNTING) as machine:
        run(machine, 50)
        state, ram = machine.save(), bytes(machine.memory.view)
        run(machine)
        end = machine.report()
        assert end.stop is Stop.EXIT
        machine.memory.view[:] = ram
        machine.restore(state)
        assert (machine.vmm.instructions, machine.stop) == (50, None)
        again = run(machine).report()
        assert again.registers == end.registers
        assert (again.console, again.memory_sha256) == (end.console, end.memory_sha256)
        assert (again.instructions, again.exits, again.device_accesses) == (
            end.instructions, end.exits, end.device_accesses,
        )  # fmt: skip


def test_cores_report_alike() -> None:
    """Instructions, console, registers and memory are equal on all cores; names and exits differ."""
    reports = []
    for core in CORES:
        if availability(core).available:
            with booted(core, COUNTING) as machine:
                reports.append(run(machine).report())
    alike = {(r.stop, r.instructions, r.console, r.memory_sha256, r.device_accesses) for r in reports}
    assert len(alike) == 1
    assert len({r.core for r in reports}) == len(reports)


def test_memory_image() -> None:
    """The image leaves out the hole and masks A and D bits of page tables, and of nothing else."""
    with booted("interpreter", EXIT) as machine:
        before = machine.memory_image()
        assert not {0xA0000, 0xB0000} & before.chunks.keys()
        machine.memory.view[0x15100] ^= 0x60  # an entry of the boot page table
        assert machine.memory_image() == before
        machine.memory.view[DATA] ^= 0x60
        assert machine.memory_image() != before


@pytest.mark.parametrize("core", CORES)
def test_closing_twice(core: str) -> None:
    """A machine can be closed twice, run or not."""
    with booted(core, EXIT) as machine:
        machine.step()
        machine.close()
        machine.close()


def test_unbacked_memory_is_noted() -> None:
    """An access to unbacked memory is noted with its address."""
    source = "mov qword ptr [0x14080], 0x40000083\nmov eax, [0x2000000]\n" + EXIT
    with booted("interpreter", source) as machine:
        assert any("0x40000000" in note for note in run(machine).notes())


def test_a_scan_of_unbacked_memory_is_one_note() -> None:
    """Neighbours are noted as one range, up or down; of far ones the first few, and that there are
    more."""
    # Virtual 32 MiB leads to 1 GiB, where nothing is.
    source = """
        mov qword ptr [0x14080], 0x40000083
        mov edi, 0x2000000
    1:  mov eax, [rdi]
        add edi, 64
        cmp edi, 0x2002000
        jne 1b
        mov edi, 0x21ff000
    2:  mov eax, [rdi]
        sub edi, 0x1000
        cmp edi, 0x21f0000
        jne 2b
    """
    far = "".join(f"mov eax, [{0x2010000 + 0x4000 * n:#x}]\n" for n in range(16))
    texts = []
    for more in ("", far):
        with booted("interpreter", source + more + EXIT) as machine:
            texts.append([note for note in run(machine).notes() if "physical" in note])
    assert texts[0] == [
        "physical addresses 0x40000000 to 0x40001fc0 have neither RAM nor device",
        "physical addresses 0x401f1000 to 0x401ff000 have neither RAM nor device",
    ]
    assert len(texts[1]) == 17
    assert texts[1][1] == "physical address 0x40010000 has neither RAM nor device"
    assert texts[1][-1] == "and more ranges of physical addresses without RAM and device"


class Held:
    """RAM and engines that are not released yet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open: list[object] = []
        for kind in (Ram, ScriptedEngine):
            self._watch(monkeypatch, kind)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
        makes, closes = kind.__init__, kind.close

        def made(this: object, *arguments: object) -> None:
            makes(this, *arguments)
            self.open.append(this)

        def closed(this: object) -> None:
            closes(this)
            self.open.remove(this)

        monkeypatch.setattr(kind, "__init__", made)
        monkeypatch.setattr(kind, "close", closed)


@pytest.mark.parametrize("part", ["Ram", "PhysicalMemory", "Board", "protocol_of", "Vmm"])
def test_what_cannot_be_made_leaves_nothing(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a part of a machine cannot be made, RAM is released and the engine closed before it."""
    held = Held(monkeypatch)

    def fails(*arguments: object, **named: object) -> None:
        raise UnavailableError("not here")

    fake = (lambda _: fails) if part == "protocol_of" else fails
    monkeypatch.setattr(f"cores.machine.machine.{part}", fake)
    with pytest.raises(UnavailableError):
        Machine(program("nop"), ScriptedEngine(), ram=RAM)
    assert held.open == []


def test_an_engine_that_fails_at_the_end_keeps_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAM is released even if closing the engine fails."""
    held = Held(monkeypatch)
    machine = Machine(program("nop"), ScriptedEngine(), ram=RAM)

    def fails() -> None:
        raise EngineError("it is gone already")

    monkeypatch.setattr(machine.engine, "close", fails)
    with pytest.raises(EngineError):
        machine.close()
    assert held.open == [machine.engine]
