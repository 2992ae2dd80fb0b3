"""Pages mapped ahead of stores (cores/vmm/stores_ahead.py): neither the guest nor anybody can tell."""

from __future__ import annotations

import pytest
from machine_lab import EXIT, TRAPS, booted, needs_assembler, run

from cores.engines.ptrace.process import VcpuProcess
from cores.machine.machine import Machine
from cores.pc.ram_image import RamImage
from cores.pc.stop import Stop
from cores.vmm import stores_ahead
from cores.x86.isa.instruction import Reason
from cores.x86.registers import RBX

pytestmark = needs_assembler

TABLE, FRAME, PAGES = 0x70000, 0x400000, 500
RAM = 16 << 20
OWN_TABLE = f"""
    mov rax, cr3
    mov rbx, [rax]
    and rbx, -4096
    mov qword ptr [rbx + 8], 0x6f003
    mov qword ptr [0x6f000], {TABLE + 3}
    mov edi, {TABLE}
    mov eax, {FRAME + 3}
    mov ecx, 512
1:  mov [rdi], rax
    add rdi, 8
    add eax, 4096
    dec ecx
    jnz 1b
    mov rax, cr3
    mov cr3, rax
    mov edi, 0x40000000
    mov r8d, {TABLE}
    xor ebx, ebx
    mov ebp, {PAGES}
"""
TURN = """
3:  TOUCH
    add edi, 4096
    add r8d, 8
    dec ebp
    jnz 3b
"""
END = "xor eax, eax\nout 0xf4, al\n"
FILL = "mov rdx, rdi\nmov eax, ebp\nmov ecx, 512\nrep stosq\nmov rdi, rdx"
"""As a kernel does: each page by a REP STOS of its own."""

LOOPS = {
    "fill": TURN.replace("TOUCH", FILL),
    "one word": TURN.replace("TOUCH", "mov [rdi + 8], rbp"),
    "the D bit at once": TURN.replace(
        "TOUCH", "mov [rdi], ebp\nmov rax, [r8]\nand eax, 0x40\nadd ebx, eax"
    ),
    "the D bit of the next": TURN.replace(
        "TOUCH", "mov [rdi], ebp\nmov rax, [r8 + 8]\nand eax, 0x40\nadd ebx, eax"
    ),
    "by instructions that are executed alone": """
    mov r9d, 2
4:  mov esi, 0xa0000                # the screen
    mov ecx, 65 * 1024
    rep movsd
    dec r9d
    jnz 4b
""",
    "every third is loaded first": """
    mov r9d, 40
3:  mov [rdi], ebp
    add edi, 4096
    dec r9d
    jnz 3b
    mov r9d, 40
4:  mov eax, [rdi]
    add ebx, eax
    mov [rdi + 4096], ebp
    mov [rdi + 8192], ebx
    add edi, 3 * 4096
    dec r9d
    jnz 4b
""",
    "exits between": TURN.replace("TOUCH", "mov [rdi], ebp\nmov eax, ebp\nout 0xe9, al"),
    "now and then an exit": TURN.replace(
        "TOUCH", "mov [rdi], ebp\ntest ebp, 63\njnz 5f\nmov rax, cr0\nadd rbx, rax\n5:"
    ),
    "another name": f"""
    mov rax, {FRAME + 3 + 4096 * 300}
    mov [{TABLE + 8 * 511}], rax       # two addresses of one frame
    mov r9d, 0x401ff000
"""
    + TURN.replace("TOUCH", "mov [rdi], ebp\nmov eax, [r9]\nadd ebx, eax\nmov [r9 + 64], ebp"),
    "the table in the way": f"""
    mov rax, {TABLE + 3}
    mov [{TABLE + 8 * 200}], rax       # a store there changes the table itself
    mov r9d, 220
3:  cmp r9d, 20
    je 5f
    mov [rdi + 2048], ebp
5:  add edi, 4096
    dec r9d
    jnz 3b
""",
    "downwards": f"add edi, {PAGES - 1} * 4096\n"
    + TURN.replace("TOUCH", FILL).replace("add edi, 4096", "sub edi, 4096"),
    "downwards, and the D bit of the next": f"add edi, {PAGES - 1} * 4096\nadd r8d, {PAGES - 1} * 8\n"
    + TURN.replace(
        "TOUCH", "mov [rdi], ebp\nmov rax, [r8 - 8]\nand eax, 0x40\nadd ebx, eax"
    ).replace("add edi, 4096", "sub edi, 4096").replace("add r8d, 8", "sub r8d, 8"),
    "downwards, now and then an exit": f"add edi, {PAGES - 1} * 4096\n"
    + TURN.replace(
        "TOUCH", "mov [rdi], ebp\ntest ebp, 63\njnz 5f\nmov rax, cr0\nadd rbx, rax\n5:"
    ).replace("add edi, 4096", "sub edi, 4096"),
    "down, up and down": """
    add edi, 100 * 4096
    mov r9d, 60
3:  mov [rdi], r9d
    sub edi, 4096
    dec r9d
    jnz 3b
    add edi, 70 * 4096
    mov r9d, 40
4:  mov [rdi + 8], r9d
    add edi, 4096
    dec r9d
    jnz 4b
    add edi, 200 * 4096
    mov r9d, 150
6:  mov [rdi + 16], r9d
    sub edi, 4096
    dec r9d
    jnz 6b
""",
    "a REP over all": f"mov eax, 0x5a\nmov ecx, {PAGES} * 512\nrep stosq\nmov ebx, edi\n",
}  # fmt: skip


def end_of(machine: Machine) -> tuple[object, ...]:
    """The end of a run. Without A bits, which may be set ahead; but a page with D has A."""
    machine.run_free(120)
    assert machine.stop is Stop.EXIT, machine.vmm.reason
    ram = bytearray(machine.memory.view[: 8 << 20])
    for at in range(TABLE, TABLE + 4096, 8):
        assert ram[at] & 0x60 != 0x40
        ram[at] &= ~0x20
    return machine.cpu.state(), bytes(ram), machine.console()


def one_by_one(source: str, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """The end of a run in which every page has a fault of its own, and each exit goes the long way."""
    with monkeypatch.context() as patch, booted("trap:native", source, ram=RAM, slow=True) as machine:
        patch.setattr(stores_ahead, "FEW", 1 << 30)
        end = end_of(machine)
        assert machine.vmm.trace.by_reason[Reason.SHADOW] >= 100
        return end


@pytest.mark.parametrize("slow", [False, True], ids=["known", "slow"])
@pytest.mark.parametrize("loop", LOOPS)
def test_as_with_a_fault_for_each_page(loop: str, slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """RAM, A and D bits included, registers and console are as where each page faults at its first
    store."""
    source = OWN_TABLE + LOOPS[loop] + END
    with booted("trap:native", source, ram=RAM, slow=slow) as machine:
        assert end_of(machine) == one_by_one(source, monkeypatch)


@pytest.mark.parametrize("loop", ["fill", "downwards"])
@pytest.mark.parametrize("slow", [False, True], ids=["known", "slow"])
def test_few_faults(slow: bool, loop: str) -> None:
    """Five hundred pages are stored to with a tenth of the faults; in exact mode each has its own."""
    with booted("trap:native", OWN_TABLE + LOOPS[loop] + END, ram=RAM, slow=slow) as machine:
        if not machine.engine._vcpus[0].process.knows_copies():  # type: ignore[attr-defined]
            pytest.skip("this host does not tell of copies (/proc/PID/pagemap)")
        machine.run_free(120)
        assert machine.vmm.trace.by_reason[Reason.SHADOW] < PAGES // 5


def test_where_the_host_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc/PID/pagemap each page has its fault, and all is as it was."""
    monkeypatch.setattr(VcpuProcess, "knows_copies", lambda process: False)
    source = OWN_TABLE + LOOPS["fill"] + END
    with booted("trap:native", source, ram=RAM) as machine:
        assert end_of(machine) == one_by_one(source, monkeypatch)
        assert machine.vmm.trace.by_reason[Reason.SHADOW] >= PAGES


def test_an_interrupted_run_leaves_nothing_behind() -> None:
    """Wherever a run ends, RAM has what the guest has stored, and a D bit for each such page."""
    source = OWN_TABLE + "mov rsi, rdi\nmov r10d, r8d\n6: mov rdi, rsi\nmov r8d, r10d\n"
    source += f"mov ebp, {PAGES}\nmov ecx, 512\n7: and byte ptr [r8 + 8 * rcx - 8], 0x9f\nloop 7b\n"
    source += "mov rax, cr3\nmov cr3, rax\n" + LOOPS["fill"] + "jmp 6b\n"
    with booted("trap:native", source, ram=RAM) as machine:
        view = machine.memory.view
        for _ in range(60):
            machine.run_free(0.003)
            assert machine.stop is None, machine.vmm.reason
            flags = [view[TABLE + 8 * n] & 0x40 for n in range(PAGES)]
            assert flags == sorted(flags, reverse=True)  # pages are stored to in order
            newest = [view[FRAME + 4096 * n] | view[FRAME + 4096 * n + 1] << 8 for n in range(PAGES)]
            for n in range(PAGES - 1):
                assert not flags[n + 1] or newest[n] == PAGES - n


@pytest.mark.parametrize("slow", [False, True], ids=["known", "slow"])
@pytest.mark.parametrize("core", TRAPS)
def test_pages_that_are_held(core: str, slow: bool) -> None:
    """A first store to a page that the virtual TLB holds, and the host has unmapped as the mode
    changed, is no event."""
    source = f"""
        mov rax, cr3
        mov cr3, rax
        mov ebp, 2
    2:  mov edi, 0x50000
    1:  mov [rdi], rdi
        add edi, 4096
        cmp edi, 0x60000
        jb 1b
        dec ebp
        jnz 2b
        {EXIT}"""
    with booted(core, source, slow=slow) as machine:
        run(machine, 3 + 1 + 16 * 4 + 2)
        before = machine.vmm.trace.by_reason[Reason.SHADOW]
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert machine.vmm.trace.by_reason[Reason.SHADOW] == before


@pytest.mark.parametrize("core", TRAPS)
def test_after_a_return_to_a_checkpoint(core: str) -> None:
    """The page table of the last first store is that of another past: it is looked up anew."""
    first, other = 0x600000, 0x601000
    source = f"""
        mov qword ptr [{first}], 0x800003
        mov qword ptr [{other}], 0xA00003
        mov qword ptr [0x14010], {first + 0x23}     # of the PD's entries, for 4 MiB
        mov rax, cr3
        mov cr3, rax
        test ebx, ebx
        jz 1f
        mov qword ptr [0x14010], {other + 0x23}
        mov cr3, rax
    1:  mov edi, 0x400000
        mov dword ptr [rdi], 0x1234
        {EXIT}"""
    with booted(core, source, ram=RAM) as machine:
        run(machine, 5)
        ram, state = RamImage.of(machine.ram), machine.save()
        for other_table in (True, False):
            ram.put_back(machine.ram)
            machine.restore(state)
            machine.cpu.gpr[RBX] = other_table
            machine.run_free(60)
            assert machine.stop is Stop.EXIT
            stored = [machine.memory.view[at : at + 2].hex() for at in (0xA00000, 0x800000)]
            assert stored == (["3412", "0000"] if other_table else ["0000", "3412"])
