"""Exact stepping on the real CPU: one instruction, and its result or its fault."""

from __future__ import annotations

import pytest
from ptrace_lab import CODE, DATA, NOWHERE, STACK, Guest

from cores.engines.base import (
    KERNEL_SPACE,
    STEPPED,
    SYSTEM_CALL,
    USER_SPACE,
    Failed,
    Fault,
)  # fmt: skip
from cores.engines.ptrace import stub
from cores.engines.ptrace.process import TASK_END
from cores.pc.ram import PAGE
from cores.x86.registers import FS, GS, SS, Cr0, Flag, Vector


def test_every_general_register_goes_in_and_comes_back(guest: Guest) -> None:
    """Each general register is loaded into, and read from, its own place."""
    values = [0x1111_0000_0000_0000 * (n % 7 + 1) + n for n in range(16)]
    for n in range(16):
        guest.cpu.gpr[:] = values
        rex, field = 0x48 | (n >> 3), n & 7
        assert guest.step(bytes([rex, 0xFF, 0xC0 | field])) == STEPPED  # inc
        assert guest.cpu.gpr == [v + (i == n) for i, v in enumerate(values)]
        assert guest.cpu.rip == CODE + 3


def test_flags_that_ring_3_owns_come_back_and_no_others(guest: Guest) -> None:
    """Status flags and DF are the CPU's; IF, IOPL, NT, TF and AC keep their virtual values."""
    kept = Flag.IOPL | Flag.NT | Flag.FIXED
    guest.cpu.rflags = kept
    assert guest.step("f9") == STEPPED  # stc
    assert guest.step("fd") == STEPPED  # std
    assert guest.cpu.rflags == kept | Flag.CF | Flag.DF


def test_popf_gives_the_guest_no_flag_of_the_cpu(guest: Guest) -> None:
    """TF, AC, NT and ID set natively by popf neither show in RFLAGS nor affect the next step."""
    guest.ram.view[STACK : STACK + 8] = (0x254DD5).to_bytes(8, "little")
    assert guest.step("9d90", rsp=STACK) == STEPPED
    assert guest.cpu.rflags & ~0xCD5 == 0x202
    assert guest.engine.step(guest.cpu) == STEPPED
    assert guest.step("8b0425 01002000") == STEPPED  # misaligned, and no #AC


def test_alignment_is_checked_where_the_guest_asked_for_it(guest: Guest) -> None:
    """#AC occurs at virtual CPL 3 with CR0.AM and AC, and nowhere else."""
    guest.cpu.cr0, guest.cpu.rflags = Cr0.AM, 0x2 | Flag.AC
    load = "8b0425 01002000"
    assert guest.step(load) == STEPPED
    guest.cpu.segments[SS].attributes = 3 << 5  # DPL 3
    assert guest.step(load) == Fault(Vector.AC, 0)


@pytest.mark.parametrize(
    ("code", "vector"),
    [
        ("f4", 13), ("fa", 13), ("e6e9", 13), ("0f22d8", 13), ("cd20", 13), ("0f0b", 6),
        ("f7f1", 0), ("cc", 3), ("cd03", 3), ("cd04", 4), ("f1", 1), ("48cf", 13), ("8ed9", 13),
    ],
)  # fmt: skip
def test_faults_and_traps_leave_the_guest_at_the_instruction(
    guest: Guest, code: str, vector: int
) -> None:
    """Stepped or run, a fault has the CPU's vector, RIP at the instruction, and no register changed."""
    guest.code(code, rcx=0)
    guest.cpu.gpr[1] = 0 if vector == 0 else 8
    before = guest.cpu.copy()
    for enter in (guest.engine.step, guest.engine.run):
        exit = enter(guest.cpu)
        assert isinstance(exit, Fault)
        assert exit.vector == vector
        assert guest.cpu == before


def test_fpu_exceptions_are_told_apart(guest: Guest) -> None:
    """#MF and #XM, which Linux reports by one signal, are distinguished."""
    image = bytearray(guest.engine.read_fpu())
    image[0:2] = (0x37B).to_bytes(2, "little")  # x87: zero divide unmasked
    image[24:28] = (0x1D80).to_bytes(4, "little")  # SSE: the same
    guest.engine.write_fpu(bytes(image))
    code = "d9e8 d9ee def9 9b"  # fld1; fldz; fdivp; fwait
    guest.code(code)
    assert [guest.engine.step(guest.cpu) for _ in range(3)] == [STEPPED] * 3
    assert guest.engine.step(guest.cpu) == Fault(Vector.MF)
    guest.engine.write_fpu(bytes(image))
    guest.code("0f57c0 f30f2ac8 f30f5ec8", rax=1)  # xorps; cvtsi2ss xmm1, eax; divss xmm1, xmm0
    assert [guest.engine.step(guest.cpu) for _ in range(2)] == [STEPPED] * 2
    assert guest.engine.step(guest.cpu) == Fault(Vector.XM)


def test_page_faults_carry_their_address_and_on_asking_their_kind(guest: Guest) -> None:
    """Reads, writes, read-modify-writes and fetches of missing and protected pages report CR2 and, on
    request, the error code."""
    cases = [
        ("488b03", NOWHERE + 5, False), ("488903", NOWHERE + 5, True), ("480fb10b", NOWHERE, True),
        ("488903", CODE + 0x800, True), ("0fae03", NOWHERE, True), ("0fae0b", NOWHERE, False),
    ]  # fmt: skip
    for code, address, write in cases:
        exit = guest.step(code, rbx=address)
        assert isinstance(exit, Fault)
        assert exit.vector == Vector.PF
        assert exit.address is not None
        assert 0 <= exit.address - address < 512  # fxsave probes its last byte first
        assert guest.engine.fault_was_write(guest.cpu) is write
        assert guest.engine.fault_was_write(guest.cpu) is write  # asked twice
        assert guest.cpu.rip == CODE
    guest.cpu.rip = DATA
    assert guest.engine.step(guest.cpu) == Fault(Vector.PF, None, DATA)
    assert guest.engine.fault_error_code() & 0x11 == 0x11  # present, and a fetch


def test_asking_for_the_kind_changes_nothing(guest: Guest) -> None:
    """The signal frame that gives the error code leaves x87, SSE and all registers unchanged."""
    guest.code("660f76c0 d9eb 488903 f4", rbx=NOWHERE)  # pcmpeqd xmm0, xmm0; fldpi; mov [rbx], rax
    assert [guest.engine.step(guest.cpu) for _ in range(2)] == [STEPPED] * 2
    fpu, cpu = guest.engine.read_fpu(), guest.cpu.copy()
    assert isinstance(guest.engine.step(guest.cpu), Fault)
    assert guest.engine.fault_was_write(guest.cpu)
    assert (guest.engine.read_fpu(), guest.cpu) == (fpu, cpu)


def test_non_canonical_addresses(guest: Guest) -> None:
    """Non-canonical data is #GP, through RSP #SS; a kernel address is #PF with its address."""
    hole, kernel = 0x8000_0000_0000, 0xFFFF_8000_0000_1000
    assert guest.step("488b03", rbx=hole) == Fault(Vector.GP, 0)
    assert guest.step("58", rsp=hole) == Fault(Vector.SS, 0)
    assert guest.step("488b03", rbx=kernel) == Fault(Vector.PF, None, kernel)
    guest.cpu.rip = hole
    assert guest.engine.step(guest.cpu) == Fault(Vector.GP, 0)
    guest.cpu.rip = kernel
    assert guest.engine.step(guest.cpu) == Fault(Vector.PF, None, kernel)


@pytest.mark.parametrize("code", ["0f05", "cd80", "0f34"])
def test_system_calls_are_stopped_with_every_register_as_before(guest: Guest, code: str) -> None:
    """RCX, R11 and RAX survive SYSCALL and INT 0x80; SYSENTER does not reach the kernel either."""
    guest.code(code, rax=0xFFFF_0000_0000_0027, rcx=1, r11=2)
    before = guest.cpu.copy()
    exit = guest.engine.step(guest.cpu)
    assert exit == SYSTEM_CALL or (code == "0f34" and isinstance(exit, Fault))
    assert guest.cpu == before
    assert guest.step("90") == STEPPED


def test_rep_is_one_instruction(guest: Guest) -> None:
    """A REP instruction is completed in one step, also with RCX = 0."""
    assert guest.step("f3aa", rcx=PAGE, rdi=DATA, rax=0x5A) == STEPPED
    assert bytes(guest.ram.view[DATA : DATA + PAGE]) == b"\x5a" * PAGE
    assert (guest.cpu.gpr[1], guest.cpu.gpr[7], guest.cpu.rip) == (0, DATA + PAGE, CODE + 2)
    assert guest.step("f348a5", rcx=0, rdi=NOWHERE) == STEPPED
    assert guest.cpu.rip == CODE + 3


def test_rep_that_faults_midway_goes_on_where_it_was(guest: Guest) -> None:
    """After a fault in a REP the registers have advanced, the flags are the old ones, and it can be
    finished."""
    guest.cpu.rflags = 0x2 | Flag.CF
    exit = guest.step("f3ae", rcx=PAGE, rdi=DATA + PAGE - 16)  # repe scasb
    assert exit == Fault(Vector.PF, None, DATA + PAGE)
    assert (guest.cpu.gpr[1], guest.cpu.gpr[7]) == (PAGE - 16, DATA + PAGE)
    assert guest.cpu.rip == CODE
    assert guest.cpu.rflags == 0x2 | Flag.CF
    guest.engine.map(KERNEL_SPACE, DATA + PAGE, DATA, PAGE, writable=True, executable=False)
    assert guest.engine.step(guest.cpu) == STEPPED
    assert (guest.cpu.gpr[1], guest.cpu.rip) == (0, CODE + 2)


@pytest.mark.parametrize("code", ["ebfe", "e2fe", "f3ebfd", "ffe0"])
def test_a_jump_to_itself_is_a_completed_instruction(guest: Guest, code: str) -> None:
    """A jump to itself is completed, though RIP is unchanged."""
    assert guest.step(code, rcx=5, rax=CODE) == STEPPED
    assert guest.cpu.rip == CODE
    assert guest.cpu.gpr[1] == (4 if code == "e2fe" else 5)


def test_wrong_turns_out_of_64_bit_mode_are_refused(guest: Guest) -> None:
    """A far return to the host's 32-bit code selector is #GP, and the next step works."""
    guest.ram.view[STACK : STACK + 16] = CODE.to_bytes(8, "little") + (0x23).to_bytes(8, "little")
    assert guest.step("48cb", rsp=STACK) == Fault(Vector.GP, 0)
    assert (guest.cpu.rip, guest.cpu.gpr[4]) == (CODE, STACK)
    assert guest.step("48ffc0", rax=1) == STEPPED
    assert guest.cpu.gpr[0] == 2


def test_segment_bases(guest: Guest) -> None:
    """FS and GS bases are the guest's; an access by a base that the host cannot load faults."""
    guest.cpu.segments[FS].base, guest.cpu.segments[GS].base = DATA, DATA + 8
    guest.ram.view[DATA : DATA + 16] = bytes(range(16))
    assert guest.step("64488b042500000000") == STEPPED
    assert guest.cpu.gpr[0] == 0x0706050403020100
    assert guest.step("65488b042500000000") == STEPPED
    assert guest.cpu.gpr[0] == 0x0F0E0D0C0B0A0908
    guest.cpu.segments[GS].base = 0xFFFF_8000_0000_0000
    assert guest.step("90") == STEPPED
    assert guest.cpu.segments[GS].base == 0xFFFF_8000_0000_0000
    refused = guest.step("65488b042500000000")
    assert isinstance(refused, Fault)
    assert refused.vector == Vector.PF


def test_the_two_spaces_differ_and_share_the_fpu(guest: Guest) -> None:
    """Each privilege level has its own mappings; x87 and SSE state follows the guest."""
    assert guest.step("660f76c0") == STEPPED
    guest.engine.space = USER_SPACE
    assert guest.step("90") == Fault(Vector.PF, None, CODE)
    guest.map_all(USER_SPACE)
    assert guest.step("66480f7ec0", rax=0) == STEPPED  # movq rax, xmm0
    assert guest.cpu.gpr[0] == (1 << 64) - 1
    image = guest.engine.read_fpu()
    guest.engine.space = KERNEL_SPACE
    assert guest.step("90") == STEPPED
    assert guest.engine.read_fpu() == image


def test_boot_fpu_state_and_its_round_trip(guest: Guest) -> None:
    """A new guest has FCW 0x37F and MXCSR 0x1F80, and written state is read back."""
    image = bytearray(guest.engine.read_fpu())
    assert image == bytearray(512)[:0] + b"\x7f\x03" + bytes(22) + b"\x80\x1f\0\0\xff\xff\0\0" + bytes(
        480
    )
    image[160:416] = bytes(range(256))
    guest.engine.write_fpu(bytes(image))
    assert guest.engine.read_fpu() == bytes(image)


def test_what_cannot_be_mapped(guest: Guest) -> None:
    """The null page, the stub and the upper half cannot be mapped; mapped memory is shared."""
    for gva in (0, stub.CODE, stub.REGION.stop - PAGE, TASK_END - PAGE + PAGE, 0xFFFF_8000_0000_0000):
        assert not guest.engine.map(KERNEL_SPACE, gva, DATA, PAGE, writable=True, executable=False)
    top = TASK_END - PAGE
    assert guest.engine.map(KERNEL_SPACE, top, DATA, PAGE, writable=True, executable=False)
    assert guest.step("488903", rbx=top, rax=77) == STEPPED
    assert guest.ram.view[DATA] == 77


def test_unmap_and_drop_all(guest: Guest) -> None:
    """An access to unmapped memory faults; drop_all spares the stub, so that the engine goes on."""
    low, high = NOWHERE, TASK_END - PAGE
    for gva in (low, high):
        guest.engine.map(KERNEL_SPACE, gva, DATA, PAGE, writable=True, executable=False)
    guest.engine.unmap(KERNEL_SPACE, low, PAGE)
    assert guest.step("488b03", rbx=low) == Fault(Vector.PF, None, low)
    guest.engine.unmap(KERNEL_SPACE, stub.REGION.start - PAGE, PAGE * (len(stub.REGION) // PAGE + 2))
    assert guest.step("488b03", rbx=high) == STEPPED
    guest.engine.drop_all()
    assert guest.step("90") == Fault(Vector.PF, None, CODE)
    guest.map_all(KERNEL_SPACE)
    assert guest.step("488b03", rbx=high) == Fault(Vector.PF, None, high)
    assert guest.step("90") == STEPPED


def test_code_runs_from_the_twin(guest: Guest) -> None:
    """Code runs from the twin, a separate memory, while RAM keeps the guest's bytes."""
    guest.code("f4")
    twin = guest.engine.patched_twin()
    assert twin is not None
    twin[CODE : CODE + 2] = b"\xff\xc0"  # inc eax
    guest.engine.map(KERNEL_SPACE, CODE, CODE, PAGE, writable=False, executable=True, twin=True)
    guest.cpu.gpr[0] = 6
    assert guest.engine.step(guest.cpu) == STEPPED
    assert guest.cpu.gpr[0] == 7
    assert guest.ram.view[CODE] == 0xF4


def test_after_close_everything_fails_in_words(guest: Guest) -> None:
    """A closed engine reports Failed, and does not hang."""
    guest.engine.close()
    guest.engine.close()
    assert guest.step("90") == Failed("the engine is closed")
