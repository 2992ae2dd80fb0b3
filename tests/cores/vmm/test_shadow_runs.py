"""The virtual TLB in free mode: neighbours in one mapping, and the code page kept at a load of CR3."""

from __future__ import annotations

import pytest
from machine_lab import TRAPS, booted, needs_assembler, run

from cores.pc.stop import Stop
from cores.x86.isa.instruction import Reason

pytestmark = needs_assembler

TABLE, PAGES, FRAMES = 0x61000, 40, 0x100
RAM = 4 << 20
OWN_TABLE = f"""
    mov rax, cr3
    mov rbx, [rax]
    and rbx, -4096
    mov qword ptr [rbx + 8], 0x60003
    mov qword ptr [0x60000], {TABLE + 3}
    mov edi, {TABLE}
    mov eax, 0x200003
    mov ecx, {PAGES}
1:  mov [rdi], rax
    add rdi, 8
    add eax, 4096
    dec ecx
    jnz 1b
"""
EACH = f"""
    mov edi, 0x40000000
    mov ecx, {PAGES}
2:  TOUCH
    add edi, 4096
    dec ecx
    jnz 2b
"""
END = "xor eax, eax\nout 0xf4, al\n"
READ, WRITE = EACH.replace("TOUCH", "mov al, [rdi]"), EACH.replace("TOUCH", "mov [rdi], ecx")


def entries(view: memoryview) -> list[int]:
    return [int.from_bytes(view[TABLE + 8 * n :][:8], "little") & 0xFFF for n in range(PAGES)]


@pytest.mark.parametrize("core", TRAPS)
def test_neighbours_are_entered_together(core: str) -> None:
    """Forty pages that are read are one fill: all A bits are set, and no D bit."""
    with booted(core, OWN_TABLE + READ + END, ram=RAM) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        ahead = core == "trap:native"  # the other has no patched twin
        assert machine.vmm.trace.by_reason[Reason.SHADOW] == (1 if ahead else PAGES)
        assert entries(machine.memory.view) == [0x23] * PAGES


@pytest.mark.parametrize("core", TRAPS)
def test_each_first_store_sets_d(core: str) -> None:
    """Neighbours are read-only until they are stored to: D is set page by page."""
    source = OWN_TABLE + READ + WRITE.replace(f"ecx, {PAGES}", "ecx, 7") + END
    with booted(core, source, ram=RAM) as machine:
        machine.run_free(60)
        assert entries(machine.memory.view) == [0x63] * 7 + [0x23] * (PAGES - 7)
        stored = [machine.memory.view[0x200000 + 4096 * n] for n in range(8)]
        assert stored == [7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("core", TRAPS)
def test_exact_mode_enters_no_neighbour(core: str) -> None:
    """In exact mode each page is filled at its own first use."""
    with booted(core, OWN_TABLE + READ.replace(f"ecx, {PAGES}", "ecx, 5") + END, ram=RAM) as machine:
        run(machine)
        assert machine.stop is Stop.EXIT
        assert entries(machine.memory.view) == [0x23] * 5 + [3] * (PAGES - 5)


@pytest.mark.parametrize("core", TRAPS)
def test_a_run_ends_where_frames_or_rights_do(core: str) -> None:
    """A page with other rights, and one that leads elsewhere, are not entered with their neighbours."""
    change = f"and qword ptr [{TABLE + 8 * 10}], -3\nmov qword ptr [{TABLE + 8 * 20}], 0x300003\n"
    touch = "mov ebx, 0x40000000\nmov al, [rbx]\nmov al, [rbx + 0xf000]\n"
    with booted(core, OWN_TABLE + change + touch + END, ram=RAM) as machine:
        machine.run_free(60)
        found = entries(machine.memory.view)
        if core == "trap:native":
            assert found[:10] == [0x23] * 10
            assert found[11:20] == [0x23] * 9
        assert (found[10], found[20]) == (1, 3)


SWAPPED_CODE = f"""
    mov byte ptr [0x200000], 0xe6     # out 0xe9, al; ret
    mov word ptr [0x200001], 0xc3e9
    mov byte ptr [0x201000], 0xfe     # inc al; out 0xe9, al; ret
    mov dword ptr [0x201001], 0xc3e9e6c0
    mov r15d, 6
    mov r14d, 0x40000000
3:  mov rcx, cr3
    mov cr3, rcx
    mov al, 65
    call r14
    call r14
    mov rax, [{TABLE}]
    xor eax, 0x1000
    mov [{TABLE}], rax
    dec r15d
    jnz 3b
"""


@pytest.mark.parametrize("core", TRAPS)
def test_other_code_behind_a_load_of_cr3(core: str) -> None:
    """Two pages of code take turns at one address; each load of CR3 makes the other one visible,
    although the first one's exits have handlers."""
    with booted(core, OWN_TABLE + SWAPPED_CODE + END, ram=RAM) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert machine.console() == "AABC" * 3


def test_the_code_page_stays_at_a_load_of_cr3() -> None:
    """A loop of loads of CR3 has no hidden fault but its first."""
    source = "mov rcx, cr3\nmov r15d, 50\n1: mov cr3, rcx\ndec r15d\njnz 1b\n" + END
    with booted("trap:native", source, ram=RAM) as machine:
        machine.run_free(60)
        assert machine.vmm.trace.by_reason[Reason.CR] == 51
        assert machine.vmm.trace.by_reason[Reason.SHADOW] <= 1
        assert machine.vmm.trace.by_reason[Reason.SCAN] < 8


IN_32_BITS = f"""
.code64
    lgdt [rip + gdtr]
    push 0x08
    lea rax, [rip + compat]
    push rax
    retfq
.code32
compat:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, 0x90000
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov ecx, 0xc0000080
    xor eax, eax
    xor edx, edx
    wrmsr
    mov eax, 0x10                       # PSE, not PAE
    mov cr4, eax
    mov dword ptr [0x70000], {TABLE + 3}
    mov edi, {TABLE}
    mov eax, 3
    mov ecx, 512
2:  mov [edi], eax
    add edi, 4
    add eax, 4096
    dec ecx
    jnz 2b
    mov ecx, 0x70000
    mov cr3, ecx
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
    jmp paged
.align 8
gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr: .short 23
    .quad gdt
.balign 4096
paged:
"""


@pytest.mark.parametrize("begin", ["mov rcx, cr3\n", IN_32_BITS], ids=["64 bits", "32 bits"])
def test_the_code_around_stays_at_a_load_of_cr3(begin: str) -> None:
    """Code that calls other pages of its own page table between loads of CR3 is not scanned again."""
    pages = "".join(f".balign 4096\npage{n}: cli\nret\n" for n in range(3))
    turn = "mov ebp, 50\n1: mov cr3, REG\ncall page0\ncall page1\ncall page2\ndec ebp\njnz 1b\n"
    source = begin + turn.replace("REG", "rcx" if "mov rcx" in begin else "ecx") + END + pages
    with booted("trap:native", source, ram=RAM) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert machine.vmm.trace.by_reason[Reason.CR] > 50
        assert machine.vmm.trace.by_reason[Reason.SCAN] < 40
