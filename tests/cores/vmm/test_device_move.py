"""MOV, MOVZX and MOVSX between a register and a device in memory: the VMM's result is the CPU's."""

from __future__ import annotations

import pytest
from machine_lab import EXIT, TRAPS, booted, needs_assembler, run

from cores.pc.stop import Stop
from cores.vmm.device_move import device_move
from cores.vmm.faults.page_faults import MOVED, THROUGH_WINDOW
from cores.x86.isa.decoder import decode
from cores.x86.isa.instruction import Reason

pytestmark = needs_assembler

SCREEN = 0xB8000
START = f"""
    mov rdi, {SCREEN}
    mov rax, 0x8877665544332211
    mov rbx, 0xffeeddccbbaa9988
    mov rcx, rbx
    mov r9, rbx
    push rax
    pop qword ptr [rdi]
"""
MOVES = [
    "mov al, [rdi + 1]", "mov bh, [rdi + 2]", "mov cx, [rdi + 3]", "mov ebx, [rdi + 4]",
    "mov rcx, [rdi]", "mov r9b, [rdi + 7]", "mov r9w, [rdi + 5]", "mov r9d, [rdi]",
    "mov [rdi + 8], bl", "mov [rdi + 9], ch", "mov [rdi + 10], bx", "mov [rdi + 12], r9d",
    "mov [rdi + 16], rax", "mov byte ptr [rdi + 3], 0xfe", "mov word ptr [rdi + 5], 0x1234",
    "mov dword ptr [rdi + 1], 0x89abcdef", "mov qword ptr [rdi + 8], -2",
    f"movabs al, [{SCREEN + 6}]", f"movabs [{SCREEN + 20}], eax",
    "movzx ecx, byte ptr [rdi + 1]", "movzx cx, byte ptr [rdi + 7]", "movzx r9, word ptr [rdi + 6]",
    "movsx ecx, byte ptr [rdi + 7]", "movsx cx, byte ptr [rdi + 7]", "movsx r9, word ptr [rdi + 6]",
    "movsx ecx, byte ptr [rdi]", "movsx rcx, byte ptr [rdi + 7]", "movsxd rcx, dword ptr [rdi + 4]",
]  # fmt: skip


@pytest.mark.parametrize("core", TRAPS)
@pytest.mark.parametrize("move", MOVES)
def test_a_move_is_the_cpus(core: str, move: str) -> None:
    """Registers, flags and the device are as on the interpreter, which executes the MOV; it is one
    exit."""
    results = []
    for one in ("interpreter", core):
        with booted(one, START + move + "\n" + EXIT) as machine:
            run(machine)
            assert machine.stop is Stop.EXIT, machine.vmm.reason
            results.append((machine.cpu.gpr, machine.cpu.rflags, bytes(machine.board.vga.cells)))
            moved = [e for e in machine.vmm.trace.events if e.handled == MOVED]
    assert results[0] == results[1]
    assert [event.reason for event in moved] == [Reason.MMIO]


@pytest.mark.parametrize("core", TRAPS)
def test_other_instructions_have_a_window(core: str) -> None:
    """What is no MOV, or crosses into RAM's page, is executed by the CPU."""
    ram = f"mov eax, [{SCREEN - 2}]\n"  # all ones and the screen: two pages
    with booted(core, START + "add dword ptr [rdi], 5\ncmp byte ptr [rdi], 7\n" + ram + EXIT) as one:
        run(one)
        assert one.stop is Stop.EXIT, one.vmm.reason
        handled = [e.handled for e in one.vmm.trace.events if e.reason is Reason.MMIO]
    assert handled == [THROUGH_WINDOW] * 4


@pytest.mark.parametrize(
    "code",
    ["8b2424", "0f20c0", "8ed8", "89c3", "0fb6c7", "0fb627", "a4", "8e07"],
    ids=[
        "to ESP",
        "CR0",
        "DS",
        "registers",
        "MOVZX of a register",
        "MOVZX to ESP",
        "MOVS",
        "ES from memory",
    ],
)
def test_what_is_no_such_move(code: str) -> None:
    """The stack pointer, whose upper half is the host's in 32-bit code, and other MOVs are left out."""
    assert device_move(decode(bytes.fromhex(code), 32)) is None
