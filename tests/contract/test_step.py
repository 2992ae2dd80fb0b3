"""The contract of single steps, on every engine."""

from __future__ import annotations

from contract_guest import CODE, DATA, Guest

from cores.engines.base import Fault
from cores.x86.registers import RAX, RCX, RDI, RSI, RSP, Flag, Vector

STATUS = Flag.CF | Flag.PF | Flag.AF | Flag.ZF | Flag.SF | Flag.OF


def test_a_step_is_one_instruction(stepping: Guest) -> None:
    """Each step completes one instruction and leaves RIP at the next."""
    stepping.code(b"\x48\xff\xc0" * 3)  # inc rax
    for done in (1, 2, 3):
        stepping.steps()
        assert (stepping.cpu.gpr[RAX], stepping.cpu.rip) == (done, CODE + 3 * done)


def test_what_goes_in_comes_out(stepping: Guest) -> None:
    """Every general register and status flag is passed in and out."""
    cpu = stepping.cpu
    stepping.code(b"\x90")
    cpu.gpr[:] = [0x0123456789ABCD00 + i for i in range(16)]
    cpu.rflags = 2 | STATUS | Flag.DF
    before = cpu.copy()
    stepping.steps()
    assert cpu.gpr == before.gpr
    assert cpu.rflags == before.rflags


def test_changes_between_steps_count(stepping: Guest) -> None:
    """State that the VMM changes between two steps is used by the next one."""
    cpu = stepping.cpu
    stepping.code(b"\x48\xff\xc0\x48\xff\xc0")
    stepping.steps()
    cpu.gpr[RAX], cpu.rip = 100, CODE
    stepping.steps()
    assert (cpu.gpr[RAX], cpu.rip) == (101, CODE + 3)


def test_rep_is_one_step(stepping: Guest) -> None:
    """A REP is complete after one step, whatever its count, and its stores are in RAM."""
    cpu = stepping.cpu
    stepping.code(b"\xf3\xaa\x90")  # rep stosb
    for count in (0, 1, 2, 5000):
        cpu.rip, cpu.gpr[RCX], cpu.gpr[RDI], cpu.gpr[RAX] = CODE, count, DATA, 0x41 + count % 7
        stepping.steps()
        assert (cpu.rip, cpu.gpr[RCX], cpu.gpr[RDI]) == (CODE + 2, 0, DATA + count)
        assert bytes(stepping.memory.view[DATA : DATA + count]) == bytes([0x41 + count % 7]) * count


def test_rep_ends_early(stepping: Guest) -> None:
    """REPNE SCAS ends at the byte that it searches."""
    cpu = stepping.cpu
    stepping.memory.write(DATA, b"abcdefg")
    stepping.code(b"\xf2\xae\x48\xff\xc3")  # repne scasb; inc rbx
    cpu.gpr[RAX], cpu.gpr[RCX], cpu.gpr[RDI] = ord("d"), 100, DATA
    stepping.steps()
    assert (cpu.rip, cpu.gpr[RCX], cpu.gpr[RDI], cpu.gpr[3]) == (CODE + 2, 96, DATA + 4, 0)
    assert cpu.rflags & Flag.ZF


def test_a_jump_to_itself_is_complete(stepping: Guest) -> None:
    """`jmp $` is one instruction, complete at each step."""
    stepping.code(b"\xeb\xfe")
    stepping.steps(3)
    assert stepping.cpu.rip == CODE


def test_code_may_change_itself(stepping: Guest) -> None:
    """A store into the next instruction takes effect at once."""
    stepping.code(b"\xc6\x05\x02\x00\x00\x00\x2a\xb0\x01\x00\x90")  # mov byte [rip+2], 42; mov al, 1
    stepping.memory.write(CODE + 7, b"\x90\xb0\x01")  # nop; mov al, 1 -> its operand becomes 42
    stepping.steps(3)
    assert stepping.cpu.gpr[RAX] == 0x2A


def test_the_vmm_may_change_code(stepping: Guest) -> None:
    """Code that the VMM stores over executed code (as a disk's DMA does) is executed next."""
    for value in (1, 2, 3):
        stepping.code(b"\xb8" + value.to_bytes(4, "little"))  # mov eax, value
        stepping.steps()
        assert stepping.cpu.gpr[RAX] == value


def test_memory_replaced(stepping: Guest) -> None:
    """After ``memory_changed`` no cache holds old contents."""
    stepping.code(b"\xb8\x01\x00\x00\x00")
    stepping.steps()
    stepping.memory.view[CODE + 1] = 9
    stepping.engine.memory_changed()
    stepping.cpu.rip = CODE
    stepping.steps()
    assert stepping.cpu.gpr[RAX] == 9


def test_undefined_opcode(faulting: Guest) -> None:
    """UD2 is #UD at RIP, and changes nothing."""
    faulting.code(b"\x0f\x0b")
    assert faulting.refused() == Fault(Vector.UD)


def test_divide_error(faulting: Guest) -> None:
    """A division by zero is #DE at RIP, and changes nothing."""
    faulting.code(b"\x48\xf7\xf1")  # div rcx
    assert faulting.refused() == Fault(Vector.DE)


def test_page_fault_and_restart(faulting: Guest) -> None:
    """A missing page is #PF with its address; with another address the same instruction completes."""
    cpu = faulting.cpu
    faulting.code(b"\x48\x8b\x06")  # mov rax, [rsi]
    cpu.gpr[RSI] = 0x7000_0000
    exit = faulting.refused()
    assert isinstance(exit, Fault)
    assert (exit.vector, exit.address) == (Vector.PF, 0x7000_0000)
    assert cpu.cr2 == 0  # delivery sets it, and that is the VMM's
    cpu.gpr[RSI] = DATA
    faulting.memory.write(DATA, b"\x55")
    faulting.steps()
    assert cpu.gpr[RAX] == 0x55


def test_no_canonical_address(faulting: Guest) -> None:
    """An access to a non-canonical address is #GP(0)."""
    faulting.code(b"\x48\x8b\x06")
    faulting.cpu.gpr[RSI] = 1 << 47
    exit = faulting.refused()
    assert isinstance(exit, Fault)
    assert exit.vector == Vector.GP
    assert exit.error in (0, None)


def test_rep_faults_in_the_middle(faulting: Guest) -> None:
    """A REP that meets a missing page keeps its finished iterations, and continues there."""
    cpu = faulting.cpu
    faulting.code(b"\xf3\xaa")
    end = len(faulting.memory.view[: 4 << 20])  # RAM ends, and with it what is mapped
    cpu.gpr[RAX], cpu.gpr[RCX], cpu.gpr[RDI] = 7, 20, end - 5
    exit = faulting.engine.step(cpu)
    assert isinstance(exit, Fault)
    assert (exit.vector, exit.address) == (Vector.PF, end)
    assert (cpu.rip, cpu.gpr[RCX], cpu.gpr[RDI]) == (CODE, 15, end)
    cpu.gpr[RDI] = DATA
    faulting.steps()
    assert (cpu.rip, cpu.gpr[RCX]) == (CODE + 2, 0)


def test_faults_do_not_pile_up(faulting: Guest) -> None:
    """Faults in a row, none of them delivered, never become a double fault."""
    faulting.code(b"\x48\xf7\xf1")
    for _ in range(500):
        assert faulting.engine.step(faulting.cpu) == Fault(Vector.DE)


def test_the_page_behind_may_be_missing(faulting: Guest) -> None:
    """The last instruction of a page runs though the next page is missing; then its fetch faults."""
    cpu, end = faulting.cpu, 4 << 20
    faulting.code(b"\x90\x48\xff\xc0", at=end - 4)
    faulting.steps(2)
    assert (cpu.rip, cpu.gpr[RAX]) == (end, 1)
    exit = faulting.refused()
    assert isinstance(exit, Fault)
    assert (exit.vector, exit.address) == (Vector.PF, end)


def test_jumps_to_nowhere_are_complete(faulting: Guest) -> None:
    """A jump to a missing page completes; the fetch there faults."""
    faulting.code(b"\xff\xe0")  # jmp rax
    faulting.cpu.gpr[RAX] = 0x7000_0000
    faulting.steps()
    assert faulting.cpu.rip == 0x7000_0000
    exit = faulting.refused()
    assert isinstance(exit, Fault)
    assert (exit.vector, exit.address) == (Vector.PF, 0x7000_0000)


def test_push_and_pop(stepping: Guest) -> None:
    """PUSH and POP access the guest's own memory."""
    cpu = stepping.cpu
    stepping.code(b"\x50\x5b")  # push rax; pop rbx
    cpu.gpr[RAX], cpu.gpr[RSP] = 0x1122334455667788, DATA
    stepping.steps()
    assert stepping.memory.read_u64(DATA - 8) == 0x1122334455667788
    stepping.steps()
    assert (cpu.gpr[3], cpu.gpr[RSP]) == (0x1122334455667788, DATA)
