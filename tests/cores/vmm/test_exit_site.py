"""The instruction to which a device access of a KVM guest belongs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from machine_lab import booted, needs_assembler, require

from cores.engines.base import MmioRead, MmioWrite, PortRead, PortWrite
from cores.engines.scripted import ScriptedEngine
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.programs.loader import load_program
from cores.vmm.exit_site import DeviceExit, ExitSites, Site
from cores.x86.registers import RDI, RDX

pytestmark = needs_assembler
HELLO = Path(__file__).resolve().parents[3] / "assets/guests/hello.s"
CODE = 0x100000
SOURCE = """
        out 0xe9, al
        out 0xe9, al
        out dx, ax
        in al, dx
        mov qword ptr [rdi], rax
        mov byte ptr [rdi + 8], al
        rep stosq
        mov eax, [rdi]
        nop
"""


class Leaves(ScriptedEngine):
    """An engine that exits with RIP behind each store to a device, or at it."""

    def __init__(self, behind: bool) -> None:
        super().__init__()
        self.behind = behind

    def leaves_behind(self, exit: DeviceExit) -> bool:
        return self.behind


@contextmanager
def sites(behind: bool, rip: int) -> Iterator[ExitSites]:
    with booted("interpreter", SOURCE) as machine:
        machine.cpu.rip, machine.cpu.gpr[RDX], machine.cpu.gpr[RDI] = CODE + rip, 0x1F0, 0xB8000
        yield ExitSites(Leaves(behind), machine.cpu, machine.vmm.mmu)


@pytest.mark.parametrize(
    ("behind", "rip", "exit", "at", "code"),
    [
        (False, 0, PortWrite(0xE9, 1, b"A"), 0, "e6e9"),
        (True, 2, PortWrite(0xE9, 1, b"A"), 0, "e6e9"),
        (False, 2, PortWrite(0xE9, 1, b"A"), 2, "e6e9"),
        (True, 6, PortWrite(0x1F0, 2, b"AB"), 4, "66ef"),
        (False, 6, PortRead(0x1F0, 1, 1), 6, "ec"),
        (True, 10, MmioWrite(0xB8000, bytes(8)), 7, "488907"),
        (True, 13, MmioWrite(0xB8008, b"A"), 10, "884708"),
        (True, 13, MmioWrite(0xB8100, bytes(8)), 13, "f348ab"),
        (False, 16, MmioRead(0xB8000, 4), 16, "8b07"),
        (False, 18, PortWrite(0xE9, 1, b"A"), 18, ""),
        (True, 18, MmioWrite(0xB8000, b"A"), 18, ""),
    ],
)
def test_the_instruction_is_found(behind: bool, rip: int, exit: DeviceExit, at: int, code: str) -> None:
    """The instruction is found at RIP or before it by its access; without a match the exit has no
    bytes."""
    with sites(behind, rip) as found:
        assert found.of(exit) == Site(CODE + at, bytes.fromhex(code))
        assert found.of(exit) == Site(CODE + at, bytes.fromhex(code))


def test_changed_code_is_looked_at_again() -> None:
    """A remembered instruction is checked against the bytes in memory."""
    with booted("interpreter", SOURCE) as machine:
        found = ExitSites(Leaves(False), machine.cpu, machine.vmm.mmu)
        machine.cpu.rip = CODE
        assert found.of(PortWrite(0xE9, 1, b"A")).code == b"\xe6\xe9"
        machine.memory.view[CODE : CODE + 2] = b"\x90\x90"
        assert found.of(PortWrite(0xE9, 1, b"A")) == Site(CODE, b"")


def test_kvm_names_the_instruction_in_free_mode() -> None:
    """Each exit of hello, in free mode on KVM, has its OUT."""
    require("kvm")
    with closing(start(load_program(str(HELLO)), "kvm", Options(free=True))) as machine:
        while machine.stop is None:
            machine.run_free(1.0)
        events = machine.vmm.trace.events
        assert [event.code for event in events] == [b"\xe6\xe9"] * 36 + [b"\xe6\xf4"]
