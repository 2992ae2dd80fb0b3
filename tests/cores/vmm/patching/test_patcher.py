"""The patched twin: its contents, the decoding of code, and changed code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from machine_lab import EXIT, booted, needs_assembler, program

from cores.pc.boot.long_mode import boot
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import Ram
from cores.pc.stop import Stop
from cores.vmm.patched_code import TRUSTED
from cores.vmm.patching.patcher import SHARE_AFTER, Patcher
from cores.vmm.patching.twin import HLT
from cores.x86.isa.instruction import Reason
from cores.x86.mmu.paging import PAGE, Mmu
from cores.x86.registers import RCX, Cr0
from cores.x86.virtual_cpu import VirtualCpu

pytestmark = needs_assembler

CODE = 0x100000


@dataclass
class Twin:
    """RAM with a program, and its patcher."""

    patcher: Patcher
    memory: PhysicalMemory
    cpu: VirtualCpu

    def bytes(self, offset: int, length: int) -> bytes:
        return bytes(self.patcher.twin[CODE + offset : CODE + offset + length])


@pytest.fixture(params=[True, False], ids=["hidden", "readable"])
def hidden(request: pytest.FixtureRequest) -> bool:
    """With protection keys the guest cannot read its twin, without them it can: both."""
    return bool(request.param)


@pytest.fixture
def rams() -> Iterator[list[Ram]]:
    made: list[Ram] = []
    yield made
    for ram in made:
        ram.close()


def twin_of(source: str, rams: list[Ram], *, hidden: bool) -> Twin:
    ram = Ram(2 << 20)
    memory, cpu = PhysicalMemory(ram), VirtualCpu()
    rams.append(ram)
    boot(program(source), memory, cpu)
    patcher = Patcher(memoryview(bytearray(2 << 20)), memory, Mmu(memory, cpu), cpu, hidden=hidden)
    return Twin(patcher, memory, cpu)


def test_what_stands_in_the_twin(hidden: bool, rams: list[Ram]) -> None:
    """Harmless and privileged instructions are unchanged, sensitive ones are HLT; unknown bytes are HLT
    where they can be hidden, else the guest's own."""
    twin = twin_of("nop\nin al, 0xe9\nnop\npushfq\nmov eax, 1\n", rams, hidden=hidden)
    assert twin.patcher.discover(CODE)
    assert twin.bytes(0, 3) == b"\x90\xe4\xe9"
    behind = twin.memory.view[CODE + 3 : CODE + 9]
    assert twin.bytes(3, 6) == (bytes([HLT]) * 6 if hidden else bytes(behind))
    assert twin.patcher.discover(CODE + 3)
    assert twin.bytes(3, 2) == bytes([0x90, HLT])
    assert not twin.patcher.discover(CODE)


def test_a_released_page_had_a_tail(hidden: bool, rams: list[Ram]) -> None:
    """A page may change after the one before it, which reached into it, has ceased to be code."""
    source = f"jmp last\n.org {PAGE - 2}\nlast: mov eax, 1\nud2\n"
    twin = twin_of(source, rams, hidden=hidden)
    patcher = twin.patcher
    patcher.discover(CODE + PAGE - 2)
    first, second = patcher.pages[CODE], patcher.adopt(CODE + PAGE)
    assert second.heads == {CODE}
    patcher.guard(first)
    assert patcher.release(CODE)
    patcher.guard(second)
    assert not second.heads


def test_direct_branches_are_followed(hidden: bool, rams: list[Ram]) -> None:
    """Both ways of a condition and a jump within the page are decoded at once."""
    source = "test al, al\njz there\npushfq\nthere: jmp far_away\nud2\nfar_away: sgdt [rdi]\n"
    twin = twin_of(source, rams, hidden=hidden)
    twin.patcher.discover(CODE)
    assert twin.bytes(4, 1) == bytes([HLT])
    assert twin.bytes(9, 1) == bytes([HLT])  # far_away


AWAY = f"call near\njmp beyond\nnear: ret\n.balign {PAGE}\nbeyond: pushfq\n"


def test_calls_are_followed_once_they_run(rams: list[Ram]) -> None:
    """Where the twin can be read, a call and a branch to another page trap once, and their targets are
    decoded then."""
    twin = twin_of(AWAY, rams, hidden=False)
    twin.patcher.discover(CODE)
    assert twin.bytes(0, 1)[0] == twin.bytes(5, 1)[0] == HLT
    assert set(twin.patcher.pages[CODE].starts) == {0, 5}
    for at, code in ((0, b"\xe8"), (5, b"\xe9")):
        assert twin.patcher.is_patched(CODE + at)
        assert twin.patcher.discover(CODE + at)
        assert twin.bytes(at, 1) == code
        assert not twin.patcher.discover(CODE + at)
    twin.patcher.executed(CODE + PAGE)
    assert twin.bytes(PAGE, 1)[0] == HLT
    twin.memory.write(CODE + 0x20, b"\x90")
    assert not twin.patcher.written(CODE + 0x20, 1)
    twin.patcher.written(CODE + 10, 1)  # the RET
    twin.patcher.discover(CODE)
    assert twin.bytes(0, 1)[0] == HLT  # decoded anew, so is what it calls
    assert twin.bytes(5, 1) == b"\xe9"  # what it leads to has not changed


def test_calls_within_hidden_code_run(rams: list[Ram]) -> None:
    """Where unknown bytes are HLT, a call needs no patch."""
    twin = twin_of(AWAY, rams, hidden=True)
    twin.patcher.discover(CODE)
    assert (twin.bytes(0, 1), twin.bytes(5, 1)) == (b"\xe8", b"\xe9")


def test_a_call_traps_once() -> None:
    """On the real CPU the calls of a loop leave the guest once each, and are scanned; a call to a
    sensitive instruction shows the guest nothing of the host."""
    source = f"""
    mov r8d, 1000
1:  call first
    call second
    dec r8d
    jnz 1b
    {EXIT}
first:
    mov ecx, cs
    ret
    .balign {PAGE}
second:
    add ebx, ecx
    ret
    """
    with booted("trap:native", source) as machine:
        machine.run_free(30)
        reasons = machine.vmm.trace.by_reason
        assert machine.stop is Stop.EXIT
        assert machine.cpu.gpr[3] == 1000 * 0x10
        assert reasons[Reason.SEGMENT] == 1000
        assert reasons[Reason.SCAN] < 10


def test_indirect_branches(hidden: bool, rams: list[Ram]) -> None:
    """Indirect branches are patched where unknown bytes cannot be HLT."""
    for branch in ("call rax", "jmp [rax]"):
        twin = twin_of(branch, rams, hidden=hidden)
        twin.patcher.discover(CODE)
        assert (twin.bytes(0, 1)[0] == HLT) is not hidden


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ("push rbx\npush rbp\nmov [rsp - 8], rdi\npop rbp\npop rbx", False),
        ("push rbp\nmov rbp, rsp\nsub rsp, 32\nmov [rsp + 8], edi\nleave", False),
        ("sub rsp, 24\nmov [rsp], edi\nadd rsp, 24", False),
        ("push rbx\nmov rsp, rbp\npop rbp", False),
        ("push rbx\nlea rsp, [rbp - 8]\npop rbx\npop rbp", False),
        ("push rax", True),
        ("pop rax\npush rax", True),
        ("add qword ptr [rsp], 3", True),
        ("mov [rdi], rsp\nmov rsp, [rsi]\npop rbp\npop rbx", True),
        ("xchg rsp, rax\npop rbx", True),
    ],
)
def test_returns_that_are_jumps(code: str, caught: bool, rams: list[Ram]) -> None:
    """A RET to a value that the code itself pushed is an indirect branch; a function's is not."""
    twin = twin_of(f"{code}\nret\n", rams, hidden=False)
    twin.patcher.discover(CODE)
    starts = twin.patcher.pages[CODE].starts
    at = next(offset for offset, insn in starts.items() if insn.mnemonic == "ret")
    assert (twin.bytes(at, 1)[0] == HLT) is caught


def test_an_instruction_across_pages(hidden: bool, rams: list[Ram]) -> None:
    """The twin has both halves of an instruction, each in its page."""
    twin = twin_of(f".space {PAGE - 2}, 0x90\nmov eax, 0x11223344\npushfq\n", rams, hidden=hidden)
    twin.patcher.discover(CODE + PAGE - 3)
    assert twin.bytes(PAGE - 2, 5) == b"\xb8\x44\x33\x22\x11"


def test_overlapping_code(rams: list[Ram]) -> None:
    """A sensitive instruction inside another is patched, and so is the outer one."""
    twin = twin_of(".byte 0xb8, 0x9c, 0x90, 0x90, 0xeb\n.byte 0xfb\n", rams, hidden=True)
    twin.patcher.discover(CODE)
    assert twin.bytes(0, 1) == b"\xb8"
    twin.patcher.discover(CODE + 1)
    assert twin.bytes(0, 2) == bytes([HLT, HLT])


def test_no_instruction_inside_another(hidden: bool, rams: list[Ram]) -> None:
    """An instruction that the platform lacks, such as SERIALIZE, stays patched when one around it is
    found."""
    twin = twin_of(".byte 0xb8, 0x0f, 0x01, 0xe8, 0x90\nud2\n", rams, hidden=hidden)
    twin.patcher.discover(CODE + 1)
    twin.patcher.discover(CODE)
    assert twin.bytes(0, 2) == bytes([HLT, HLT])


def test_patches_in_a_chain_across_pages(hidden: bool, rams: list[Ram]) -> None:
    """In a chain of MOVs each of which holds the beginning of the next, the last one a PUSHF, all are
    patched."""
    count = PAGE
    twin = twin_of(
        f".rept {count}\n.byte 0xb8, 0x90, 0x90\n.endr\npushfq\nnop\nret\n", rams, hidden=hidden
    )
    for n in range(count + 1):
        twin.patcher.discover(CODE + 3 * n)
    assert twin.bytes(0, 3 * count)[::3] == bytes([HLT]) * count


def test_written_code_is_forgotten(hidden: bool, rams: list[Ram]) -> None:
    """A store to known code discards the page's decoding; a store beside code does not."""
    twin = twin_of("nop\nnop\nret\n.space 64, 0xcc\n", rams, hidden=hidden)
    twin.patcher.discover(CODE)
    assert not twin.patcher.written(CODE + 40, 4)
    assert twin.bytes(0, 3) == b"\x90\x90\xc3"
    twin.memory.view[CODE + 1] = 0x9C
    assert twin.patcher.written(CODE + 1, 1)
    assert twin.patcher.discover(CODE)
    assert twin.bytes(0, 2) == bytes([0x90, HLT])


def test_disabled_floating_point_is_patched(hidden: bool, rams: list[Ram]) -> None:
    """With CR0.TS set SSE is patched, in known code too; with TS cleared it is not."""
    twin = twin_of("pxor xmm0, xmm0\nud2\n", rams, hidden=hidden)
    twin.patcher.discover(CODE)
    assert twin.bytes(0, 1) == b"\x66"
    twin.cpu.cr0 |= Cr0.TS
    twin.patcher.control_changed()
    assert twin.bytes(0, 1) == bytes([HLT])
    twin.cpu.cr0 &= ~Cr0.TS
    twin.patcher.control_changed()
    assert twin.bytes(0, 1) == b"\x66"


def test_a_mixed_page_becomes_shared(rams: list[Ram]) -> None:
    """After enough data accesses a page of code and data is shared: stores reach RAM and twin, patches
    stay."""
    twin = twin_of("nop\npushfq\nnop\nret\n.space 64\n", rams, hidden=True)
    patcher = twin.patcher
    patcher.discover(CODE)
    patcher.discover(CODE + 2)
    page = patcher.pages[CODE]
    assert [patcher.count_data_access(page) for _ in range(SHARE_AFTER)] == [False] * (
        SHARE_AFTER - 1
    ) + [True]
    assert twin.bytes(0, 2) == bytes([0x90, HLT])
    patcher.twin[CODE + 40] = 7  # the guest stores
    patcher.left()
    assert twin.memory.view[CODE + 40] == 7
    assert bytes(twin.memory.view[CODE : CODE + 2]) == b"\x90\x9c"
    twin.memory.view[CODE + 50] = 8  # the VMM stores
    patcher.enter()
    assert twin.bytes(50, 1) == b"\x08"
    patcher.twin[CODE + 2] = 0x9C  # the guest changes its code
    patcher.left()
    assert twin.memory.view[CODE + 2] == 0x9C
    assert twin.bytes(2, 1) == bytes([HLT])


def test_free_mode_scans_and_catches() -> None:
    """On the real CPU code is decoded before it runs, and silent instructions are emulated."""
    with booted("trap:native", "mov eax, cs\nsmsw rbx\nstr cx\n" + EXIT) as machine:
        machine.run_free(30)
        reasons = machine.vmm.trace.by_reason
        assert machine.stop is Stop.EXIT
        assert machine.cpu.gpr[3] == machine.cpu.cr0
        assert machine.cpu.gpr[1] & 0xFFFF == 0x40
        assert reasons[Reason.SEGMENT] == reasons[Reason.CR] == reasons[Reason.DESCRIPTOR] == 1


LED_ASTRAY = """
    mov ebx, {turns}
again:
    lea rax, [rip + known]
    dec ebx
    jnz branch
    lea rax, [rip + unseen + 1]         # no direct branch leads there
branch:
    call rax
    test ebx, ebx
    jnz again
    {end}
known:
    ret
    .balign 4096
unseen:
    .byte 0xb8                          # MOV EAX, imm32, from here
    mov ecx, cs
    ret
    nop
"""


INTO_THE_MIDDLE = """
    lea r12, [rip + outer + {at}]
    {first}
    lea rax, [rip + back]               # a known start, for the RET
    push rax
    {branch}
back:
    {end}
outer:
    {outer}                             # in its middle: mov ecx, cs; ret
    nop
    ret
"""
IN_A_MOV, IN_A_STORE = (
    ".byte 0xb8, 0x8c, 0xc9, 0xc3, 0x90",
    ".byte 0x0f, 0x01, 0x83, 0x8c, 0xc9, 0xc3, 0x00",
)
BY_IRET = """
    mov rax, rsp
    push 0x18
    push rax
    pushfq
    push 0x10
    push r12
    iretq
"""
"""The first is MOV EAX, imm32, which stands; the second SGDT, which is patched."""


@pytest.mark.parametrize(
    ("branch", "outer", "at"),
    [
        (BY_IRET, IN_A_MOV, 1),
        (BY_IRET, IN_A_STORE, 3),
        ("jmp r12", IN_A_STORE, 3),
        ("push r12\nret", IN_A_STORE, 3),
    ],
    ids=["iret, standing", "iret, patched", "jmp, patched", "ret, patched"],
)
def test_a_branch_into_a_known_instruction(
    branch: str, outer: str, at: int, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the real CPU code in the middle of an instruction that is known already is scanned before it
    runs: a MOV from CS shows the guest's selector."""
    first = "mov rbx, rsp\nsub rbx, 0xc3c9cc\ncall outer"  # SGDT stores below the stack
    source = INTO_THE_MIDDLE.format(at=at, first=first, branch=branch, outer=outer, end=EXIT)
    with booted("trap:native", source) as machine:
        monkeypatch.setattr(machine.engine, "hides_code", hidden)
        machine.run_free(30)
        assert machine.stop is Stop.EXIT, machine.vmm.reason
        assert machine.cpu.gpr[RCX] == 0x10


def test_a_known_target_in_the_middle_of_new_code(rams: list[Ram]) -> None:
    """A direct branch from another page into an instruction that is decoded later: the target is
    decoded with it."""
    source = f"jmp inside\n.balign {PAGE}\n.byte 0xb8\ninside: pushfq\nnop\nnop\nnop\nret\n"
    twin = twin_of(source, rams, hidden=True)
    twin.patcher.executed(CODE + PAGE)
    twin.patcher.discover(CODE)
    twin.patcher.discover(CODE + PAGE)
    assert twin.bytes(PAGE, 2) == bytes([HLT, HLT])


def test_what_is_patched_is_no_code(hidden: bool, rams: list[Ram]) -> None:
    """Of an instruction that always traps the twin has HLT alone where the guest cannot read it, and
    the bytes of another instruction that overlaps it."""
    twin = twin_of(IN_A_STORE + "\nnop\n", rams, hidden=hidden)
    twin.patcher.discover(CODE)
    own = bytes(twin.memory.view[CODE + 1 : CODE + 7])
    assert twin.bytes(0, 7) == bytes([HLT]) + (bytes([HLT]) * 6 if hidden else own)
    twin.memory.view[CODE + 3 : CODE + 7] = b"\xb0\x01\x90\xc3"  # mov al, 1; nop; ret
    twin.patcher.written(CODE + 3, 4)
    twin.patcher.discover(CODE)
    twin.patcher.discover(CODE + 3)
    assert twin.bytes(3, 4) == b"\xb0\x01\x90\xc3"
    twin.cpu.cr0 |= Cr0.TS  # all pages are built anew
    twin.patcher.control_changed()
    assert twin.bytes(0, 1) + twin.bytes(3, 4) == bytes([HLT]) + b"\xb0\x01\x90\xc3"


def test_a_branch_is_trusted_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the real CPU, where the twin can be read, an indirect branch that has led to known code 15
    times is still caught, and its target is scanned."""
    for turns in (3, 10, 17):  # one finds the known code, the last leads elsewhere
        with booted("trap:native", LED_ASTRAY.format(turns=turns, end=EXIT)) as machine:
            monkeypatch.setattr(machine.engine, "hides_code", False)
            machine.run_free(30)
            assert machine.stop is Stop.EXIT
            assert machine.cpu.gpr[RCX] == 0x10
            assert TRUSTED not in machine.vmm.notes


def test_a_trusted_branch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 16 branches to known code a branch is no longer caught, and the notes say so."""
    with booted("trap:native", LED_ASTRAY.format(turns=30, end=EXIT)) as machine:
        monkeypatch.setattr(machine.engine, "hides_code", False)
        machine.run_free(30)
        assert machine.stop is Stop.EXIT
        assert TRUSTED in machine.vmm.notes


def test_self_modifying_code_in_free_mode() -> None:
    """On the real CPU an instruction that the guest makes sensitive is caught each time."""
    source = (
        """
    mov ecx, 10
turn:
    mov byte ptr [rip + changing], 0x90
    call changing
    mov dword ptr [rip + changing], 0xc3c88c66      # mov ax, cs; ret
    call changing
    movzx eax, ax
    add rbx, rax
    loop turn
"""
        + EXIT
        + "changing: nop\nret\nnop\nnop\n"
    )
    with booted("trap:native", source) as machine:
        machine.run_free(30)
        assert machine.stop is Stop.EXIT
        assert machine.cpu.gpr[3] == 10 * 0x10


def test_the_guests_memory_is_never_patched() -> None:
    """RAM holds the guest's own bytes."""
    with booted("trap:native", "pushfq\npop rax\n" + EXIT) as machine:
        machine.run_free(30)
        assert machine.memory.view[CODE] == 0x9C


def test_trust_is_earned_by_sixteen_leaps(rams: list[Ram]) -> None:
    """An indirect branch is caught until it has led to known code sixteen times in a row; unknown code
    restarts the count."""
    twin = twin_of("jmp rax\nnear: nop\nnop\njmp near\nfar: pushf\n" + EXIT, rams, hidden=False)
    patcher, near, far = twin.patcher, CODE + 2, CODE + 6
    patcher.discover(CODE)
    patcher.discover(near)

    def caught_after(leaps: int, target: int = near) -> bool:
        for _ in range(leaps):
            patcher.branched(CODE, target)
        return twin.bytes(0, 1)[0] == HLT

    assert caught_after(15)
    assert caught_after(1, far)
    assert twin.bytes(6, 1)[0] == HLT  # what stands there is silent
    assert caught_after(15)
    assert not patcher.trusts
    assert not caught_after(1)
    assert patcher.trusts
