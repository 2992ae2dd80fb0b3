"""Leader and followers at addresses where the host process can neither execute nor set a breakpoint."""

from __future__ import annotations

from contextlib import closing

import pytest
from machine_lab import RAM, booted, needs_assembler, program, require, run

from cores.engines.ptrace import stub
from cores.lockstep.options import Options
from cores.lockstep.session import Session
from cores.machine.report import Stop

pytestmark = needs_assembler

BOOT_PML4, BOOT_PT = 0x12000, 0x15000
PLACES = {
    "upper half": 0xFFFF_8000_0000_0000,
    "last page of all": 0xFFFF_FFFF_FFFF_F000,
    "Linux's last page": 0x7FFF_FFFF_F000,
    "the stub": stub.CODE,
    "below mmap_min_addr": 0x1000,
}
LOOP = "mov ecx, 1000\n2: add rax, rcx\ndec ecx\njnz 2b\n"
ENDS = {
    "a port": "mov dx, 0xe9\nmov al, 65\nout dx, al\n",
    "a fault": "ud2\n",
    "the budget": "3: inc rsi\njmp 3b\n",
    "a branch back": "mov ebx, offset near\njmp rbx\n",
}


def mapped(place: int) -> str:
    """A guest that maps the page at the label ``far`` at ``place`` as well; RDI becomes its address
    there."""
    if place < 1 << 21:
        entry = BOOT_PT + place // 512
        return f"lea rax, [rip + far + 3]\nmov [{entry:#x}], rax\nmov edi, {place:#x}\n"
    source, table = "", BOOT_PML4
    for level, child in ((39, 0x24000), (30, 0x25000), (21, 0x26000)):
        source += f"mov qword ptr [{table + 8 * (place >> level & 511):#x}], {child + 3:#x}\n"
        table = child
    entry = table + 8 * (place >> 12 & 511)
    return source + f"lea rax, [rip + far + 3]\nmov [{entry:#x}], rax\nmov rdi, {place:#x}\n"


def guest(place: str, end: str) -> str:
    """A guest that runs a loop here, then at ``place``, and ends there by ``end``."""
    near = "near: " + LOOP + "mov al, 7\nout 0xf4, al\n"
    far = ".align 4096\nfar:\n" + LOOP + ENDS[end]
    return mapped(PLACES[place]) + LOOP + "jmp rdi\n" + near + far


@pytest.mark.parametrize("follower", ["trap:native", "trap:portable", "kvm"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("place", PLACES)
def test_it_goes_on(place: str, end: str, follower: str) -> None:
    """Over 2,000 instructions there are led, whatever ends the stretch, and all machines end alike."""
    require(follower)
    options = Options(cores=("interpreter", follower), ram=RAM, budget=8_000)
    with closing(Session(program(guest(place, end)), options)) as session:
        session.run_to_end()
        assert session.divergence is None
        assert session.led > 0
        ends = {(m.stop, m.vmm.instructions) for m in session.machines}
        assert len(ends) == 1
        assert Stop.ERROR not in {stop for stop, _ in ends}, session.machines[-1].vmm.reason


def test_steps_to_the_end_of_the_lower_half() -> None:
    """Code whose block would run on to addresses that are not canonical is stepped to the very end."""
    with booted("interpreter", guest("Linux's last page", "a port")) as machine:
        run(machine)
        assert machine.stop is Stop.SHUTDOWN
        assert machine.cpu.rip >= (1 << 47) - 1
