"""Kernels in the upper half on trap:native, running freely: their code is translated, and means the
same."""

from __future__ import annotations

import random
import threading

import pytest
from agreement_lab import GUESTS, free, named, program, skip_unless_assembled

from cores.engines import registry
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.machine.machine import Machine
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program
from cores.vmm.upper_half import UpperHalf
from tests.sampling import sampled

pytestmark = skip_unless_assembled()
CORE = "trap:native"
TURNS, OTHERS = 200_000, 600
"""Of the loop of ``WORK``, and instructions that are executed once, at most."""

LIFT = """
_start:
    mov rax, cr3
    mov rax, [rax]
    mov [0x80000], rax                          # the lower half as it was
    mov qword ptr [0x80ff8], 0x81003            # PML4[511]; the last 2 GiB begin at 0
    mov qword ptr [0x81ff0], 0x82003
    mov qword ptr [0x82000], 0x83
    mov eax, 0x80000
    mov cr3, rax
    mov rbp, 0xffffffff80000000
    lea rax, [rip + up]
    add rax, rbp
    jmp rax
up: lea rsp, [rbp + 0x90000]
"""
WORK = f"""{LIFT}
    lea rdi, [rbp + 0x60000]
    lea rsi, [rip + {{sum}}]
    mov ecx, {TURNS}
again:
    call work
    dec ecx
    jnz again
    mov al, [rsi]
    out 0xf4, al
work:
    push rbx
    mov rbx, rcx
    add [{{place}}], rbx
    pop rbx
    ret
sum: .quad 0
"""
TABLES = f"""{LIFT}
    mov qword ptr [0x80f80], 0x84003            # PML4[496], whose only page is 0x60000
    mov qword ptr [0x84000], 0x85003
    mov qword ptr [0x85000], 0x86003
    mov qword ptr [0x86000], 0x60003
    mov dword ptr [0x60000], 0xc301b0           # mov al, 1; ret
    mov dword ptr [0x61000], 0xc302b0           # mov al, 2; ret
    mov rbx, 0xfffff80000000000
    call rbx                                    # translated
    call tell
    mov qword ptr [0x86000], 0x61003
    mov rax, cr3
    mov cr3, rax                                # another page is there now
    call rbx
    call tell
    mov byte ptr [0x61001], 3                   # other code is there now
    call rbx
    call tell
    mov qword ptr [0x86000], 0x60003
    invlpg [rbx]
    call rbx
    call tell
    out 0xf4, al
tell:
    add al, 0x30
    out 0xe9, al
    ret
"""


POINTER = f"""{LIFT}
    mov rax, cr4
    or eax, 0x200
    mov cr4, rax
    lea rdi, [rbp + 0x60000]
    fninit
    mov word ptr [rdi], 0x33b                   # a division by zero is reported
    fldcw [rdi]
    fld1
    fldz
last:
    fdivp st(1), st
    fnstenv [rdi]
    lea rax, [rip + last]
    sub eax, [rdi + 12]                         # x87's pointer to the last instruction
    out 0xf4, al
"""


def native() -> None:
    if reason := registry.availability(CORE).reason:
        pytest.skip(f"{CORE}: {reason}")


def machine_for(source: str, core: str = CORE) -> Machine:
    return start(assemble_program(source.encode(), "up.s"), core, Options())


def everywhere(upper: UpperHalf) -> bool:
    """``UpperHalf.serves``, but for the lower half, too."""
    guest = upper._guest
    rip, guest.cpu.rip = guest.cpu.rip, 1 << 63
    try:
        return served(upper)
    finally:
        guest.cpu.rip = rip


served = UpperHalf.serves


@pytest.mark.parametrize("name", sampled(named(free=True), 80))
def test_translated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All kernel code of a guest is translated, wherever it lies; it ends as on the interpreter."""
    native()
    options = GUESTS[name].run_options
    reference = free(program(name), options, "interpreter")
    monkeypatch.setattr(UpperHalf, "serves", everywhere)
    assert free(program(name), options, CORE).told == reference.told


@pytest.mark.parametrize("kicked", [False, True])
@pytest.mark.parametrize("data", ["far", "near"])
def test_counts(data: str, kicked: bool) -> None:
    """Each instruction counts once, wherever the guest is stopped; data beside code may change."""
    native()
    near = data == "near"
    machine = machine_for(WORK.format(sum="sum", place="rsi" if near else "rdi"))
    ended = threading.Event()

    def kick() -> None:
        chance = random.Random(1)
        while not ended.wait(chance.random() / 1000):
            machine.vmm.engine.interrupt()

    thread = threading.Thread(target=kick)
    try:
        if kicked:
            thread.start()
        machine.run_free(120)
        total = int.from_bytes(machine.memory.view[0x60000:0x60008], "little")
        if near:
            total = int.from_bytes(machine.memory.view[near_sum(machine) :][:8], "little")
        assert machine.stop is Stop.EXIT
        assert total == TURNS * (TURNS + 1) // 2
        assert 0 <= machine.vmm.trace.bridged - 8 * TURNS <= OTHERS
    finally:
        ended.set()
        if kicked:
            thread.join()
        machine.close()


def near_sum(machine: Machine) -> int:
    return machine.vmm.cpu.gpr[6] & 0x7FFFFFFF  # RSI


def test_other_pages() -> None:
    """A translation goes when other tables or other code lie at its address."""
    native()
    for core in ("interpreter", CORE):
        machine = machine_for(TABLES, core)
        machine.run_free(60)
        assert machine.stop is Stop.EXIT, machine.vmm.reason
        assert bytes(machine.board.console) == b"1231"
        machine.close()


def test_x87_pointer() -> None:
    """x87's pointer to its last instruction is the guest's address, not that of the translation."""
    native()
    machine = machine_for(POINTER)
    machine.run_free(60)
    assert (machine.stop, machine.vmm.exit_status) == (Stop.EXIT, 0)
    machine.close()
