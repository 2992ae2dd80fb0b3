"""The contract of an engine that runs the guest's kernel at ring 3."""

from __future__ import annotations

import pytest
from contract_guest import CODE, DATA, Guest

from cores.engines.base import KERNEL_SPACE, STEPPED, SYSTEM_CALL, USER_SPACE, DeprivilegedEngine, Fault
from cores.x86.registers import RAX, RSI, Flag, Vector

PAGE = 4096
HIGH = 0x4000_0000

PRIVILEGED = {
    "cli": b"\xfa", "sti": b"\xfb", "hlt": b"\xf4",
    "in al, dx": b"\xec", "out dx, al": b"\xee", "in eax, 0x20": b"\xe5\x20",
    "rep insw": b"\x66\xf3\x6d",
    "rep outsb": b"\xf3\x6e", "mov cr3, rax": b"\x0f\x22\xd8", "mov rax, cr0": b"\x0f\x20\xc0",
    "mov cr8, rax": b"\x44\x0f\x22\xc0", "mov dr7, rax": b"\x0f\x23\xf8", "clts": b"\x0f\x06",
    "lgdt [rsi]": b"\x0f\x01\x16", "lidt [rsi]": b"\x0f\x01\x1e", "lldt ax": b"\x0f\x00\xd0",
    "ltr ax": b"\x0f\x00\xd8", "lmsw ax": b"\x0f\x01\xf0", "rdmsr": b"\x0f\x32", "wrmsr": b"\x0f\x30",
    "invlpg [rsi]": b"\x0f\x01\x3e", "wbinvd": b"\x0f\x09", "invd": b"\x0f\x08",
    "swapgs": b"\x0f\x01\xf8",
    "sysretq": b"\x48\x0f\x07", "rdpmc": b"\x0f\x33", "int 0x21": b"\xcd\x21",
}  # fmt: skip


def engine_of(guest: Guest) -> DeprivilegedEngine:
    assert isinstance(guest.engine, DeprivilegedEngine)
    return guest.engine


@pytest.mark.parametrize("name", PRIVILEGED)
def test_privileged_instructions_fault(deprivileged: Guest, name: str) -> None:
    """Each of them is #GP at ring 3, with nothing changed."""
    deprivileged.code(PRIVILEGED[name])
    deprivileged.cpu.gpr[RSI] = DATA
    exit = deprivileged.refused()
    assert isinstance(exit, Fault)
    assert exit.vector == Vector.GP


@pytest.mark.parametrize(("code", "vector"), [(b"\xcc", Vector.BP), (b"\x0f\x0b", Vector.UD)])
def test_traps_are_faults(deprivileged: Guest, code: bytes, vector: int) -> None:
    """int3 and ud2 are reported with RIP at the instruction."""
    deprivileged.code(code)
    exit = deprivileged.refused()
    assert isinstance(exit, Fault)
    assert exit.vector == vector


@pytest.mark.parametrize("code", [b"\x0f\x05", b"\xcd\x80"])
def test_system_calls_do_not_reach_the_host_kernel(deprivileged: Guest, code: bytes) -> None:
    """SYSCALL and INT 0x80 are stopped before the host's kernel acts, with all registers unchanged."""
    deprivileged.code(code)
    deprivileged.cpu.gpr[RAX] = 60
    assert deprivileged.refused() == SYSTEM_CALL


def test_virtual_flags_stay_virtual(deprivileged: Guest) -> None:
    """IF, IOPL and the like keep their virtual values, whatever ring 3's real flags are."""
    flags = 2 | Flag.IF | Flag.IOPL | Flag.NT | Flag.CF
    deprivileged.code(b"\x48\x85\xc0")  # test rax, rax: ZF and PF
    deprivileged.cpu.rflags = int(flags)
    deprivileged.steps()
    assert deprivileged.cpu.rflags == flags & ~Flag.CF | Flag.ZF | Flag.PF


def test_unmapped_then_mapped(deprivileged: Guest) -> None:
    """``map`` makes a page accessible, ``unmap`` makes it fault again."""
    engine, cpu = engine_of(deprivileged), deprivileged.cpu
    deprivileged.code(b"\x48\x8b\x06\xeb\xfb")  # mov rax, [rsi]; jmp back
    deprivileged.memory.write(DATA + 8, b"\x99")
    cpu.gpr[RSI] = HIGH + 8
    for _ in range(2):
        exit = deprivileged.refused()
        assert isinstance(exit, Fault)
        assert (exit.vector, exit.address) == (Vector.PF, HIGH + 8)
        assert not engine.fault_was_write(cpu)
        assert engine.map(KERNEL_SPACE, HIGH, DATA, PAGE, writable=True, executable=False)
        deprivileged.steps(2)
        assert cpu.gpr[RAX] == 0x99
        engine.unmap(KERNEL_SPACE, HIGH, PAGE)


def test_read_only(deprivileged: Guest) -> None:
    """A store to a read-only page faults, and is recognized as a store."""
    engine, cpu = engine_of(deprivileged), deprivileged.cpu
    assert engine.map(KERNEL_SPACE, HIGH, DATA, PAGE, writable=False, executable=False)
    deprivileged.code(b"\x48\x8b\x06\x48\x89\x06")  # mov rax, [rsi]; mov [rsi], rax
    cpu.gpr[RSI] = HIGH
    deprivileged.steps()
    exit = deprivileged.refused()
    assert isinstance(exit, Fault)
    assert (exit.vector, exit.address) == (Vector.PF, HIGH)
    assert engine.fault_was_write(cpu)


def test_no_execute(deprivileged: Guest) -> None:
    """Code on a page mapped without execution faults at its fetch."""
    engine = engine_of(deprivileged)
    assert engine.map(KERNEL_SPACE, HIGH, DATA, PAGE, writable=True, executable=False)
    deprivileged.memory.write(DATA, b"\x90")
    deprivileged.cpu.rip = HIGH
    exit = deprivileged.refused()
    assert isinstance(exit, Fault)
    assert (exit.vector, exit.address) == (Vector.PF, HIGH)


def test_two_spaces(deprivileged: Guest) -> None:
    """The same address maps to different memory in the kernel's and the user's space."""
    engine, cpu = engine_of(deprivileged), deprivileged.cpu
    code, user = 0x300000, 0x301000
    deprivileged.memory.write(user, b"\x55")
    deprivileged.memory.write(DATA, b"\x66")
    deprivileged.memory.write(code, b"\x48\x8b\x06\xeb\xfb")
    assert engine.map(USER_SPACE, CODE, code, PAGE, writable=False, executable=True)
    assert engine.map(USER_SPACE, DATA, user, PAGE, writable=True, executable=False)
    deprivileged.code(b"\x48\x8b\x06\xeb\xfb")
    cpu.gpr[RSI] = DATA
    for space, value in ((KERNEL_SPACE, 0x66), (USER_SPACE, 0x55), (KERNEL_SPACE, 0x66)):
        engine.space = space
        deprivileged.steps(2)
        assert cpu.gpr[RAX] == value


def test_drop_all(deprivileged: Guest) -> None:
    """After drop_all the code faults, too, and pages can be mapped anew."""
    engine = engine_of(deprivileged)
    deprivileged.code(b"\x90")
    engine.drop_all()
    exit = deprivileged.refused()
    assert isinstance(exit, Fault)
    assert (exit.vector, exit.address) == (Vector.PF, CODE)
    assert engine.map(KERNEL_SPACE, CODE, CODE, PAGE, writable=False, executable=True)
    assert engine.step(deprivileged.cpu) == STEPPED


def test_remapped_code(deprivileged: Guest) -> None:
    """After another page is mapped at an address, its code is executed."""
    engine, cpu = engine_of(deprivileged), deprivileged.cpu
    for frame, value in ((0x300000, 1), (0x301000, 2), (0x300000, 1)):
        deprivileged.memory.write(frame, b"\xb8" + value.to_bytes(4, "little"))
        assert engine.map(KERNEL_SPACE, HIGH, frame, PAGE, writable=False, executable=True)
        cpu.rip = HIGH
        deprivileged.steps()
        assert cpu.gpr[RAX] == value


def test_the_upper_half_is_refused(deprivileged: Guest) -> None:
    """The engine refuses mappings in the upper half, which no host process can have."""
    engine = engine_of(deprivileged)
    assert not engine.map(
        KERNEL_SPACE, 0xFFFF_8000_0000_0000, DATA, PAGE, writable=True, executable=True
    )
