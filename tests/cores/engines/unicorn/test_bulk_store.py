"""REP STOS in free runs of the interpreter, whose iterations are made a page at a time."""

from __future__ import annotations

import random
import struct
from contextlib import closing

import pytest
from machine_lab import EXIT, RAM, booted, needs_assembler, run

from cores.engines import machine_code
from cores.engines.unicorn.bulk_store import BulkStore
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.pc.ram import MIB
from cores.pc.stop import Stop
from cores.programs.assembler.keystone import assemble
from cores.programs.program import Program, Segment
from cores.x86.isa.instruction import Instruction
from cores.x86.registers import RBX, RCX, RDI

pytestmark = needs_assembler

FROM, COUNT = 0x50008, 1500
PT = 0x15000
MUCH = 16 * MIB


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows with each help that is given."""
    calls: list[bool] = []
    store = BulkStore.store

    def counted(self: BulkStore, insn: Instruction, rep: int) -> bool:
        calls.append(store(self, insn, rep))
        return calls[-1]

    monkeypatch.setattr(BulkStore, "store", counted)
    return calls


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_pages_at_once(width: int, made: list[bool]) -> None:
    """Memory, registers, D bits and the count are those of single iterations."""
    letter = {1: "b", 2: "w", 4: "d", 8: "q"}[width]
    source = f"""
        mov edx, {PT + 8 * 0x4F}
        mov ecx, 7
    1:  and byte ptr [rdx], 0x9f                # A and D
        add edx, 8
        loop 1b
        mov rax, cr3
        mov cr3, rax
        mov rax, 0x1122334455667788
        mov rdi, {FROM}
        mov ecx, {COUNT}
        rep stos{letter}
        mov rbx, rdi
        {EXIT}"""
    with booted("interpreter", source) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        end, view = FROM + COUNT * width, machine.memory.view
        assert bytes(view[FROM:end]) == (0x1122334455667788).to_bytes(8, "little")[:width] * COUNT
        assert bytes(view[FROM - 8 : FROM]) == bytes(view[end : end + 8]) == bytes(8)
        assert (machine.cpu.gpr[RBX], machine.cpu.gpr[RCX]) == (end, 0)
        assert machine.vmm.instructions == 2 + 7 * 3 + 2 + 7
        dirty = [page for page in range(0x4F, 0x56) if view[PT + 8 * page] & 0x40]
        assert dirty == [*range(FROM >> 12, (end - 1 >> 12) + 1)]
        assert 0 < len(made) < 20


def test_a_fault_in_the_middle(made: list[bool]) -> None:
    """A page that is not there ends it at its first iteration, with the registers of that."""
    source = f"mov edi, {RAM - 0x2010}\nmov ecx, 0x3000\nmov al, 7\nrep stosb\n"
    with booted("interpreter", source) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.SHUTDOWN
        assert (machine.cpu.gpr[RDI], machine.cpu.gpr[RCX]) == (RAM, 0x3000 - 0x2010)
        assert bytes(machine.memory.view[RAM - 0x2010 : RAM]) == b"\7" * 0x2010
        assert made


@pytest.mark.parametrize(("down", "at"), [("", 0x140000), ("std\n", 0x140FFF)], ids=["up", "down"])
def test_over_code_that_has_run(down: str, at: int) -> None:
    """Code that is overwritten is not executed as it was, and the direction flag counts."""
    source = f"""
        mov word ptr [0x140800], 0xff48
        mov word ptr [0x140802], 0xc3c3             # inc rbx; ret
        mov eax, 0x140800
        xor ebx, ebx
        call rax
        mov edi, {at}
        mov ecx, 4096
        mov eax, 0xc3
        {down}rep stosb
        cld
        mov eax, 0x140800
        call rax
        {EXIT}"""
    with booted("interpreter", source) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert machine.cpu.gpr[RBX] == 1
        assert bytes(machine.memory.view[0x140000:0x141000]) == b"\xc3" * 4096


SMALL_PAGES = """
    mov edi, 0x600000                   # two page tables: 4 to 8 MiB in pages of 4 KiB
    mov eax, 0x400003
1:  mov [rdi], rax
    add edi, 8
    add eax, 4096
    cmp edi, 0x602000
    jb 1b
    mov qword ptr [0x14010], 0x600003   # of the PD's entries for 4 and 6 MiB
    mov qword ptr [0x14018], 0x601003
    mov rax, cr3
    mov cr3, rax
"""


@pytest.mark.parametrize(
    ("core", "python"),
    [("interpreter", False), ("interpreter", True), ("trap:portable", False)],
    ids=["machine code", "Python", "trap:portable"],
)
@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("pages", ["", SMALL_PAGES], ids=["large pages", "small pages"])
def test_a_page_by_each_rep(
    width: int,
    pages: str,
    core: str,
    python: bool,
    made: list[bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory that is filled page by page, over several page tables, has what single stores leave, with
    D bits where they belong, and no REP counts twice."""
    if python:
        monkeypatch.setattr(machine_code, "executable", lambda code: None)
    letter = {1: "b", 2: "w", 4: "d", 8: "q"}[width]
    first, count = 0x3F0000, 0x210
    source = f"""{pages}
        mov rax, 0x8877665544332211
        mov edi, {first}
        mov ebx, {count}
    2:  mov ecx, {4096 // width - 3}
        rep stos{letter}
        add edi, {3 * width}
        dec ebx
        jnz 2b
        mov rbx, rdi
        {EXIT}"""
    with booted(core, source, ram=MUCH) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        end, view = first + count * 4096, machine.memory.view
        page = (0x8877665544332211).to_bytes(8, "little")[:width] * (4096 // width - 3)
        assert bytes(view[first:end]) == (page + bytes(3 * width)) * count
        assert (machine.cpu.gpr[RBX], machine.cpu.gpr[RCX]) == (end, 0)
        set_up = 5 * 1024 + 6 if pages else 0
        assert machine.vmm.instructions == set_up + 3 + count * 5 + 3
        if pages:
            dirty = [n for n in range(1024) if view[0x600000 + 8 * n] & 0x40]
            assert dirty == list(range(end - 0x400000 >> 12))
        if core == "interpreter" and machine_code.executable(b"\xc3") is not None:
            assert len(made) < 20


@pytest.mark.parametrize("paging", [False, True], ids=["unpaged", "two levels"])
def test_a_32_bit_kernel(paging: bool, made: list[bool]) -> None:
    """Page by page as xv6 does it, above 2 GiB by a page table of 4-byte entries, or without paging."""
    high = 0x80000000 if paging else 0
    map_it = """
        mov edi, 0x200000               # the directory, then two tables for 4 to 12 MiB
        mov dword ptr [edi], 0x83
        mov dword ptr [edi + 2052], 0x201003
        mov dword ptr [edi + 2056], 0x202003
        add edi, 4096
        mov eax, 0x400003
    1:  stosd
        add eax, 4096
        cmp eax, 0xC00000
        jb 1b
        mov eax, cr4
        or eax, 0x10
        mov cr4, eax
        mov eax, 0x200000
        mov cr3, eax
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
    """
    source = f"""bits 32
        {map_it if paging else ""}
        mov ebx, {high + 0x400000}
    2:  mov edi, ebx
        mov ecx, 1024
        mov eax, 0x01010101
        rep stosd
        add ebx, 4096
        cmp ebx, {high + 0xC00000}
        jne 2b
        {EXIT}"""
    code = assemble(source, "k.s", MIB).code
    kernel = Program("k", "multiboot", MIB, (Segment(MIB, code, len(code)),), "", ram=MUCH)
    with closing(start(kernel, "interpreter", Options())) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert bytes(machine.memory.view[4 * MIB : 12 * MIB]) == b"\1" * (8 * MIB)
        assert machine.cpu.gpr[RDI] == high + 0xC00000
        if paging:
            entries = struct.unpack("<2048I", machine.memory.view[0x201000:0x203000])
            assert all(entry & 0x60 == 0x60 for entry in entries)  # A and D
        if machine_code.executable(b"\xc3") is not None:
            assert len(made) < 20


def end_of(source: str, *, free: bool) -> tuple[Stop | None, tuple[int, ...], int, str]:
    """How a guest ends, with its registers, instructions and memory."""
    with booted("interpreter", source, ram=MUCH) as machine:
        if free:
            machine.run_free(60)
        else:
            run(machine, 60_000)
        memory = machine.memory_image().sha256()
        return machine.stop, machine.cpu.state(), machine.vmm.instructions, memory


@pytest.mark.parametrize("seed", range(8))
def test_random_fills_are_those_of_single_steps(seed: int) -> None:
    """Fills of all widths, lengths and directions in pages of all frames, some read-only, missing or
    with code that runs, leave the memory, registers and count of single steps."""
    rng = random.Random(seed)
    frames = rng.sample(range(0x400, 0x600), 512) if seed % 2 else range(0x400, 0x600)
    body = ["mov rax, 0x8877665544332211"]
    for page, frame in enumerate(frames):
        if seed % 2 or page % 61 == 0:
            rights = rng.choice((3, 3, 3, 3, 3, 3, 3, 1, 0)) if page % 61 == 0 else 3
            body.append(f"mov qword ptr [{0x600000 + 8 * page}], {frame << 12 | rights}")
    body += ["mov rcx, cr3", "mov cr3, rcx", "cmp ecx, ecx"]  # whose flags are defined
    at = 0x400000
    for _ in range(120):
        kind = rng.randrange(12)
        if kind == 0:
            body.append(f"mov edi, {at}\nmov dword ptr [rdi], 0xc3c3ff48\ncall rdi")  # inc rbx; ret
        elif kind == 1:
            at = rng.randrange(0x400000, 0x5F0000)
        down = "std" if rng.randrange(10) == 0 else "cld"
        width = rng.choice("bwdq")
        count = rng.choice((1023, 1024, 512, 4096, 40, 3, rng.randrange(3000)))
        body.append(f"{down}\nmov edi, {at}\nmov ecx, {count}\nrep stos{width}\ncld")
        at = min(at + count * 8 & -8, 0x5F0000) if rng.randrange(3) else at + 4096 & -4096
    source = f"{SMALL_PAGES}\n" + "\n".join(body) + f"\n{EXIT}"
    ends = [end_of(source, free=free) for free in (True, False)]
    assert ends[0][0] in (Stop.EXIT, Stop.SHUTDOWN)
    assert ends[0] == ends[1]


def test_downwards(made: list[bool]) -> None:
    """With DF set there is no help, and Python is asked once for each REP."""
    source = f"""
        mov eax, 7
        mov ebx, 3
    2:  mov edi, {FROM + 8 * COUNT}
        mov ecx, {COUNT}
        std
        rep stosq
        cld
        dec ebx
        jnz 2b
        {EXIT}"""
    with booted("interpreter", source) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert (
            bytes(machine.memory.view[FROM + 8 : FROM + 8 + 8 * COUNT]) == struct.pack("<Q", 7) * COUNT
        )
        assert len(made) == 3


@pytest.mark.parametrize("seed", range(4))
def test_one_rep_for_all_sizes(seed: int) -> None:
    """A memset that is called with random sizes, none and one element among them, for a region in which
    it has help leaves what single steps leave."""
    rng = random.Random(seed)
    width = rng.choice((1, 2, 4, 8))
    calls, at = [(0x400000, 4096), (0x402000, 4096)], 0x404000
    for _ in range(150):
        count = rng.choice((0, 1, 1, 2, 3, 17, 18, 511, 512, 1024, rng.randrange(3000)))
        calls.append((at, count))
        at = (
            min(at + count * width, 0x5F0000) if rng.randrange(2) else rng.randrange(0x400000, 0x5F0000)
        )
    table = "\n".join(f".long {at}, {count}" for at, count in calls)
    source = f"""{SMALL_PAGES if seed % 2 else ""}
        mov rax, 0x8877665544332211
        lea rsi, [table]
        mov ebp, {len(calls)}
    2:  mov edi, [rsi]
        mov ecx, [rsi + 4]
        rep stos{ {1: "b", 2: "w", 4: "d", 8: "q"}[width] }
        add r8, rdi
        add r9, rcx
        add rsi, 8
        dec ebp
        jnz 2b
        {EXIT}
        .balign 4
        table: {table}"""
    ends = [end_of(source, free=free) for free in (True, False)]
    assert ends[0][0] is Stop.EXIT
    assert ends[0] == ends[1]
