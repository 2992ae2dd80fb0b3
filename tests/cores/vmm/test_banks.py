"""What is kept for values of CR3 that come again: no guest can tell, and a process switch is cheap."""

from __future__ import annotations

import random

import pytest
from machine_lab import booted, needs_assembler

from cores.machine.machine import Machine
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import Ram
from cores.pc.stop import Stop
from cores.vmm.known_tables import KnownTables
from cores.vmm.shadow_space import MOST_BANKS, MOST_ROOTS, Banks
from cores.x86.isa.instruction import Reason
from cores.x86.mmu.paging import PAGE, walk
from cores.x86.registers import Cr0, Cr4
from cores.x86.virtual_cpu import VirtualCpu

pytestmark = needs_assembler

A, B, ROOT_B = 0x70000, 0x83000, 0x80000
FRAMES_A, FRAMES_B = 0x400000, 0x500000
RAM, TURNS = 16 << 20, 24
TWO_SPACES = f"""
    mov rax, cr3
    mov r14, rax
    mov rbx, [rax]
    and rbx, -4096
    mov rsi, rax
    mov edi, {ROOT_B}
    mov ecx, 512
    rep movsq
    mov rsi, rbx
    mov ecx, 512
    rep movsq
    mov qword ptr [rbx + 8], 0x6f003            # A's 1 GiB to 2 GiB
    mov qword ptr [0x6f000], {A + 3}
    mov qword ptr [{ROOT_B}], 0x81003
    mov qword ptr [0x81008], 0x82003            # B's
    mov qword ptr [0x82000], {B + 3}
    xor ecx, ecx
1:  mov rax, rcx
    shl rax, 12
    lea rdx, [rax + {FRAMES_A + 3}]
    mov [{A} + 8 * rcx], rdx
    lea rdx, [rax + {FRAMES_B + 3}]
    mov [{B} + 8 * rcx], rdx
    inc ecx
    cmp ecx, 64
    jb 1b
    mov r15d, {ROOT_B}
    mov r13d, 0x40000000
    mov rsi, 0xc3e9e610e8c10041             # the end of MOV EAX; shr eax, 16; out 0xe9, al; ret
    mov dword ptr [{FRAMES_A + 0x10FFC}], 0xb800
    mov [{FRAMES_A + 0x11000}], rsi
    inc rsi
    mov dword ptr [{FRAMES_B + 0x10FFC}], 0xb800
    mov [{FRAMES_B + 0x11000}], rsi
    mov ebp, {TURNS}
2:  mov cr3, r14
    IN_A
    mov cr3, r15
    IN_B
    dec ebp
    jnz 2b
    xor eax, eax
    out 0xf4, al
"""
WORK = "add [r13 + 0x3000], rbp\nmov rax, [r13 + 0x5000]\nadd r12, rax\n"
CALL = "lea rax, [r13 + 0x10ffd]\ncall rax\n"
SWITCHES: dict[str, tuple[str, str]] = {
    "as they are": (WORK, WORK),
    "another frame": (WORK, WORK + f"xor qword ptr [{A + 8 * 3}], 0x8000\n"),
    "D and A cleared": (
        WORK, WORK + f"and qword ptr [{A + 8 * 3}], -0x61\nand byte ptr [{A + 8 * 5}], 0x9f\n"
    ),
    "D cleared here": (WORK + f"and qword ptr [{A + 8 * 3}], -0x61\n", WORK),
    "not stored to": (
        f"and qword ptr [{A + 8 * 3}], -0x41\nmov rax, [r13 + 0x3000]\nadd r12, rax\n",
        f"mov rax, [{A + 8 * 3}]\nshr eax, 6\nadd r12, rax\nadd [r13 + 0x3000], rbp\n",
    ),
    "changed unused": (
        "mov rax, [r13 + 0x5000]\nadd r12, rax\nadd qword ptr [r13 + 0x5008], 3\n"
        f"xor qword ptr [{A + 8 * 5}], 0x8000\n",
        WORK,
    ),
    "absent in between": (
        f"test ebp, 1\njnz 3f\nadd qword ptr [r13 + 0x7000], 5\n3: xor byte ptr [{A + 8 * 7}], 1\n",
        WORK,
    ),
    "another table": (
        WORK,
        WORK + f"mov rax, [0x6f000]\nxor rax, {(A + 3) ^ (B + 3)}\nmov [0x6f000], rax\n",
    ),
    "other code at one address": (CALL, CALL),
    "code rewritten": (
        CALL,
        f"{CALL}inc byte ptr [{FRAMES_A + 0x11000}]\nxor byte ptr [{FRAMES_B + 0x11000}], 1\n",
    ),
    "code moved": (
        CALL,
        f"{CALL}mov rax, [{A + 8 * 17}]\nxor rax, {FRAMES_A ^ FRAMES_B}\nmov [{A + 8 * 17}], rax\n",
    ),
    "other code behind": (CALL, f"mov rax, [{A + 8 * 16}]\nmov [{B + 8 * 16}], rax\n{CALL}"),
    "code becomes data": (
        CALL + f"mov dword ptr [{FRAMES_A + 0x11008}], ebp\n",
        f"{CALL}mov edi, {FRAMES_A + 0x12000}\nmov rsi, {FRAMES_A + 0x11000}\nmov ecx, 512\nrep movsq\n"
        f"mov edi, {FRAMES_A + 0x11000}\nmov ecx, 512\nxor eax, eax\nrep stosq\n"
        f"mov rsi, {FRAMES_A + 0x12000}\nmov edi, {FRAMES_A + 0x11000}\nmov ecx, 4096\nrep movsb\n",
    ),
    "write protection": (
        "mov rax, cr0\nbts rax, 16\nmov cr0, rax\nmov rax, cr3\nmov cr3, rax\n" + WORK
        + "mov rax, cr0\nbtr rax, 16\nmov cr0, rax\n" + WORK,
        f"{WORK}btc qword ptr [{A + 8 * 5}], 1\nmov rax, [r13 + 0x4000]\n",
    ),
    "locks": ("cli\npushfq\npop rax\nadd r12, rax\nsti\n" + WORK, "pushfq\npopfq\n" + WORK),
}  # fmt: skip


def source(kind: str) -> str:
    in_a, in_b = SWITCHES[kind]
    return TWO_SPACES.replace("IN_A", in_a).replace("IN_B", in_b)


def end_of(machine: Machine) -> tuple[object, ...]:
    """The end of a run; without A bits, which may be set ahead."""
    machine.run_free(120)
    assert machine.stop is Stop.EXIT, machine.vmm.reason
    ram = bytearray(machine.memory.view[: 8 << 20])
    for table in (A, B):
        for at in range(table, table + PAGE, 8):
            ram[at] &= ~0x20
    for page in (0x6F000, 0x80000, 0x81000, 0x82000, *range(0x10000, 0x17000, PAGE)):
        for at in range(page, page + PAGE, 8):
            ram[at] &= ~0x60
    return machine.cpu.state(), bytes(ram), machine.console()


@pytest.mark.parametrize("hides", [True, False], ids=["hidden", "readable"])
@pytest.mark.parametrize("kind", SWITCHES)
def test_as_if_nothing_were_kept(kind: str, hides: bool) -> None:
    """Whatever the guest does to the tables of the other process: RAM, D bits, registers and console
    are as where a load of CR3 drops all, and as on the interpreter; with protection keys and
    without."""
    with booted("trap:native", source(kind), ram=RAM) as machine:
        machine.engine.hides_code &= hides  # type: ignore[attr-defined]
        kept = end_of(machine)
    with booted("trap:native", source(kind), ram=RAM) as machine:
        machine.engine.most_spaces = 3  # type: ignore[attr-defined]
        assert kept == end_of(machine)
    with booted("interpreter", source(kind), ram=RAM) as machine:
        assert kept == end_of(machine)


def test_a_process_switch_has_no_hidden_faults() -> None:
    """Two processes that take turns meet their pages once."""
    few = source("as they are")
    with booted("trap:native", few, ram=RAM) as machine:
        machine.run_free(120)
        some = machine.vmm.trace.by_reason[Reason.SHADOW]
    with booted("trap:native", few.replace(f"ebp, {TURNS}", "ebp, 400"), ram=RAM) as machine:
        machine.run_free(120)
        assert machine.vmm.trace.by_reason[Reason.SHADOW] <= some + 8
        assert machine.vmm.trace.by_reason[Reason.CR] > 800


def test_an_inspected_machine_goes_on_in_steps() -> None:
    """Between two processes a guest goes from free to exact mode and back."""
    with booted("trap:native", source("code rewritten"), ram=RAM) as machine:
        for _ in range(40):
            machine.run_free(0.0005)
            for _ in range(3):
                if machine.stop is None:
                    machine.vmm.patched.go_exact()  # type: ignore[union-attr]
                    machine.step()
        stepped = end_of(machine) if machine.stop is None else None
    with booted("interpreter", source("code rewritten"), ram=RAM) as machine:
        expected = end_of(machine)
    assert stepped is None or stepped[2] == expected[2]


def test_tables_are_unchanged_if_all_entries_are() -> None:
    """Random changes of two-level tables: what was translated is translated so still, or the tables are
    called changed."""
    chance = random.Random(3)
    ram = Ram(1 << 20)
    memory, cpu = PhysicalMemory(ram), VirtualCpu()
    cpu.cr0 |= Cr0.PE | Cr0.PG
    cpu.efer, cpu.cr4, cpu.cr3 = 0, Cr4.PSE, 0x1000
    words = memory.view.cast("I")
    noticed = 0
    for _ in range(300):
        for at in range(3):
            words[0x400 + at] = (2 + at) << 12 | 7
        for at in range(0x800, 0x1400):
            words[at] = chance.randrange(256) << 12 | chance.choice((3, 7, 0, 0x63))
        tables, seen = KnownTables(memory), {}
        for _ in range(chance.randrange(1, 30)):
            gva = chance.randrange(3 * 1024) * PAGE
            if words[0x800 + (gva >> 12)] & 1:
                seen[gva] = walk(memory, cpu, gva, write=chance.random() < 0.5, user=False)
                tables.note(cpu, gva)
            if chance.random() < 0.1:
                words[0x800 + chance.randrange(3 * 1024)] = 0x5003
        for _ in range(chance.randrange(4)):
            words[0x800 + chance.randrange(3 * 1024)] ^= chance.choice((0x1000, 0x60, 2, 1, 0x40))
        if chance.random() < 0.2:
            words[0x400 + chance.randrange(3)] ^= 0x1000
        if tables.unchanged():
            for gva, before in seen.items():
                now = walk(memory, cpu, gva, user=False, mark=False)
                assert now[:-1] == before[:-1]
                assert now.dirty or not before.dirty
        else:
            noticed += 1
    assert 50 < noticed < 290
    words.release()
    ram.close()


def test_few_banks_and_the_oldest_goes() -> None:
    """A CR3 gets a bank when it comes again; the one least recently used is given up for it."""
    ram = Ram(1 << 20)
    banks = Banks(PhysicalMemory(ram))
    assert banks.choose(0x1000) is None
    banks.here.root = 0x1000
    numbers = set()
    for root in range(0x2000, 0x2000 + 0x1000 * MOST_BANKS, 0x1000):
        assert banks.choose(root) is None
        bank = banks.choose(root)
        assert bank is not None
        banks.use(bank)
        bank.root = root
        numbers |= set(bank.spaces)
    assert len(banks.all) == MOST_BANKS
    assert len(numbers) == 2 * MOST_BANKS
    assert 0x1000 not in [bank.root for bank in banks.all]
    for root in range(1 << 20, (1 << 20) + MOST_ROOTS * PAGE, PAGE):
        assert banks.choose(root) is None
    assert banks.choose(0x1000) is None
    ram.close()
