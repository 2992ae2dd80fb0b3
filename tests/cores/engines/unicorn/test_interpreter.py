"""The interpreter: a guest at ring 0, and the corrections of Unicorn towards the SDM."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cores.engines.base import BUDGET_SPENT, INTERCEPT, STEPPED, Fault
from cores.engines.unicorn import capi

if reason := capi.probe():
    pytest.skip(reason, allow_module_level=True)

from cores.engines.unicorn.interpreter import INTERCEPTS, InterpreterEngine
from cores.errors import UnavailableError
from cores.pc.boot.long_mode import boot
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.platform import INITIAL_FPU
from cores.pc.ram import Ram
from cores.programs.program import Program, Segment
from cores.x86.isa import sensitive
from cores.x86.registers import CS, RAX, RCX, RDI, RSI, RSP, SS, Flag, Vector
from cores.x86.virtual_cpu import Segment as CpuSegment
from cores.x86.virtual_cpu import VirtualCpu

CODE, DATA, PAGE_TABLE = 0x100000, 0x200000, 0x15000
USER = 4


class Machine:
    """The platform's boot state on the interpreter."""

    def __init__(self) -> None:
        self.memory, self.cpu, self.engine = (
            PhysicalMemory(Ram(4 << 20)),
            VirtualCpu(),
            InterpreterEngine(),
        )
        boot(Program("-", "flat", CODE, (Segment(CODE, b"\x90", 1),), ""), self.memory, self.cpu)
        self.engine.load(self.memory)
        self.engine.write_fpu(INITIAL_FPU)

    def step(self, code: bytes) -> object:
        self.memory.write(CODE, code)
        self.cpu.rip = CODE
        return self.engine.step(self.cpu)

    def map(self, gva: int, gpa: int, rights: int = 3) -> None:
        """Map one of the first 512 pages, in the guest's own table."""
        self.memory.write_u64(PAGE_TABLE + 8 * (gva >> 12), gpa | rights)
        self.engine.flush(gva)

    def close(self) -> None:
        self.engine.close()
        self.memory.ram.close()


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.close()


def test_nothing_is_where_there_is_no_ram(machine: Machine) -> None:
    """Behind RAM and in the hole loads give all ones and stores are lost; each is counted."""
    accesses: list[None] = []
    machine.memory.on_access = lambda: accesses.append(None)
    for gpa in (0xA0000, 4 << 20, 0x40_0000_0000, (1 << 40) - 0x1000):
        machine.map(0x20000, gpa)
        machine.cpu.gpr[RSI] = 0x20008
        machine.cpu.gpr[RAX] = 5
        assert machine.step(b"\x48\x89\x06") == STEPPED  # mov [rsi], rax
        assert machine.step(b"\x48\x8b\x06") == STEPPED  # mov rax, [rsi]
        assert machine.cpu.gpr[RAX] == (1 << 64) - 1
    assert len(accesses) == 8
    assert (0x40_0000_0008, 0x40_0000_0008) in machine.memory.unbacked


def test_no_code_is_where_there_is_no_ram(machine: Machine) -> None:
    """Outside RAM code reads FF FF, which is #UD."""
    machine.map(0x20000, 0x40_0000_0000)
    machine.cpu.rip = 0x20000
    assert machine.engine.step(machine.cpu) == Fault(Vector.UD)


@pytest.mark.parametrize("cr3", [0xA0000, 0x3FF000, 0x400000, 0x80_0000_0000, (1 << 40) - 0x1000])
def test_page_tables_anywhere(machine: Machine, cr3: int) -> None:
    """Page tables outside RAM read all ones, so reserved bits are set, and nothing crashes."""
    machine.cpu.cr3, machine.cpu.rip = cr3, CODE
    exit = machine.engine.step(machine.cpu)
    assert isinstance(exit, Fault)
    assert (exit.vector, exit.address) == (Vector.PF, CODE)
    assert exit.error == (0x10 if cr3 == 0x3FF000 else 0x19)


def test_physical_addresses_have_40_bits(machine: Machine) -> None:
    """Bit 40 of a page-table entry is reserved."""
    machine.map(0x20000, 1 << 40)
    machine.cpu.gpr[RSI] = 0x20000
    assert machine.step(b"\x48\x8b\x06") == Fault(Vector.PF, 9, 0x20000)


def user_mode(machine: Machine) -> None:
    cpu = machine.cpu
    cpu.segments[CS] = CpuSegment(0x33, 0, 0xFFFFFFFF, 0xA0FB)
    cpu.segments[SS] = CpuSegment(0x2B, 0, 0xFFFFFFFF, 0xC0F3)


def test_the_privilege_level_is_the_guests(machine: Machine) -> None:
    """At CPL 3 supervisor pages and privileged instructions fault, and hidden segment parts are read
    back."""
    for table in (0x12000, 0x13000, 0x14000):
        machine.memory.view[table] |= USER
    machine.map(CODE, CODE, 7)
    machine.map(0x20000, 0x20000)
    user_mode(machine)
    machine.cpu.gpr[RSI] = 0x20000
    assert machine.step(b"\x48\x8b\x06") == Fault(Vector.PF, 5, 0x20000)
    assert machine.step(b"\xfa") == Fault(Vector.GP, 0)
    assert machine.step(b"\x90") == STEPPED
    assert machine.cpu.segments[CS] == CpuSegment(0x33, 0, 0xFFFFFFFF, 0xA0FB)
    machine.cpu.segments[CS] = CpuSegment(0x10, 0, 0xFFFFFFFF, 0xA09B)
    machine.cpu.segments[SS] = CpuSegment(0x18, 0, 0xFFFFFFFF, 0xC093)
    assert machine.step(b"\xfa") == STEPPED


def test_the_vmm_may_change_everything(machine: Machine) -> None:
    """Privileged state changed between steps is used, and survives a step."""
    cpu = machine.cpu
    machine.step(b"\x90")
    cpu.star, cpu.lstar, cpu.cstar, cpu.fmask, cpu.kernel_gs_base = (
        1 << 40,
        2 << 40,
        3 << 40,
        4,
        5 << 40,
    )
    cpu.gdtr.base, cpu.gdtr.limit, cpu.idtr.base, cpu.idtr.limit = 0x11000, 0x3F, 0x16000, 0xFFF
    cpu.ldtr, cpu.tr = CpuSegment(0x50, 0x17000, 0xFF, 0x82), CpuSegment(0x48, 0x18000, 0x67, 0x8B)
    cpu.cr2, cpu.cr8, cpu.debug[0] = 0x1234, 5, 0x777
    before = cpu.copy()
    assert machine.step(b"\x90") == STEPPED
    before.rip = cpu.rip
    assert cpu == before


def test_the_shadow_of_sti(machine: Machine) -> None:
    """STI delays interrupts by one instruction, and only if it has set IF."""
    assert machine.step(b"\xfb") == STEPPED
    assert machine.cpu.interrupt_shadow
    assert machine.step(b"\xfb") == STEPPED
    assert not machine.cpu.interrupt_shadow
    machine.cpu.gpr[RAX] = 0x18
    assert machine.step(b"\x8e\xd0") == STEPPED  # mov ss, eax
    assert machine.cpu.interrupt_shadow
    assert machine.step(b"\x90") == STEPPED
    assert not machine.cpu.interrupt_shadow


def test_a_null_stack_segment_has_its_privilege(machine: Machine) -> None:
    """At CPL 0 SS takes null selector 0, but not 3, which Unicorn would take."""
    before = machine.cpu.segments[SS].copy()
    machine.cpu.gpr[RAX] = 3
    assert machine.step(b"\x8e\xd0") == Fault(Vector.GP, 0)
    assert machine.cpu.segments[SS] == before
    assert machine.cpu.rip == CODE
    machine.cpu.gpr[RAX] = 0
    assert machine.step(b"\x8e\xd0") == STEPPED
    assert machine.cpu.segments[SS].selector == 0


def test_the_resume_flag_lasts_one_instruction(machine: Machine) -> None:
    """RF is cleared by an instruction, not pushed by PUSHF, and kept over a fault."""
    machine.cpu.rflags = 2 | Flag.RF
    machine.cpu.gpr[RSP] = DATA
    assert machine.step(b"\x9c") == STEPPED
    assert machine.cpu.rflags == 2
    assert machine.memory.read_u64(DATA - 8) == 2
    machine.cpu.rflags = 2 | Flag.RF
    assert machine.step(b"\x0f\x0b") == Fault(Vector.UD)
    assert machine.cpu.rflags == 2 | Flag.RF


def test_returns_to_no_canonical_address(machine: Machine) -> None:
    """A near return to a non-canonical address is #GP(0), with RSP unchanged."""
    machine.cpu.gpr[RSP] = DATA
    machine.memory.write_u64(DATA, 1 << 47)
    assert machine.step(b"\xc3") == Fault(Vector.GP, 0)
    assert (machine.cpu.rip, machine.cpu.gpr[RSP]) == (CODE, DATA)


class Recorder:
    """A device that records its accesses."""

    def __init__(self) -> None:
        self.stores: list[tuple[int, bytes]] = []

    def mmio_read(self, offset: int, size: int) -> bytes:
        return bytes(range(offset, offset + size))

    def mmio_peek(self, offset: int, size: int) -> bytes:
        return self.mmio_read(offset, size)

    def mmio_write(self, offset: int, data: bytes) -> None:
        self.stores.append((offset, data))


def test_devices_see_whole_accesses(machine: Machine) -> None:
    """A store of 8 or 16 bytes is one access, also unaligned; a REP makes one for each iteration."""
    device, accesses = Recorder(), []
    machine.memory.attach(range(0xB8000, 0xB9000), device)
    machine.memory.on_access = lambda: accesses.append(None)
    cpu = machine.cpu
    cpu.gpr[RAX], cpu.gpr[RDI], cpu.gpr[RCX] = 0x0807060504030201, 0xB8003, 2
    assert machine.step(b"\x48\x89\x07") == STEPPED  # mov [rdi], rax
    assert device.stores == [(3, bytes(range(1, 9)))]
    assert machine.step(b"\xf3\x48\xab") == STEPPED  # rep stosq
    assert device.stores[1:] == [(3, bytes(range(1, 9))), (11, bytes(range(1, 9)))]
    cpu.gpr[RDI] = 0xB8001
    assert machine.step(b"\x0f\x10\x07") == STEPPED  # movups xmm0, [rdi]
    assert machine.engine.read_fpu()[160:176] == bytes(range(1, 17))
    assert len(accesses) == 4


def test_a_devices_error_is_not_lost(machine: Machine) -> None:
    """An exception that a device raises is raised by ``step``."""

    class Broken(Recorder):
        def mmio_write(self, offset: int, data: bytes) -> None:
            raise OSError("the screen is broken")

    machine.memory.attach(range(0xB8000, 0xB9000), Broken())
    machine.cpu.gpr[RDI] = 0xB8000
    with pytest.raises(OSError, match="broken"):
        machine.step(b"\x88\x07")
    machine.memory.write(CODE, b"\x88\x07")
    machine.cpu.rip = CODE
    with pytest.raises(OSError, match="broken"):
        machine.engine.run(machine.cpu, 1)
    assert machine.step(b"\x90") == STEPPED


INTERCEPTED = (
    b"\xe6\x80", b"\xec", b"\x6c", b"\x6e", b"\xf4", b"\x0f\xa2", b"\x0f\x31", b"\x0f\x32", b"\x0f\x30",
    b"\x0f\x22\xd8", b"\x0f\x20\xc0", b"\x0f\x23\xc0", b"\xcc", b"\xcd\x80", b"\xf1", b"\x0f\x05",
    b"\x48\x0f\x07", b"\x48\xcf", b"\x48\xcb", b"\x0f\x01\x3e", b"\x0f\x01\xcb", b"\x0f\xc7\xf0",
)  # fmt: skip


@pytest.mark.parametrize("code", INTERCEPTED)
@pytest.mark.parametrize("ahead", [0, 3])
def test_free_runs_stop_before_what_is_the_vmms(machine: Machine, code: bytes, ahead: int) -> None:
    """A free run stops before an intercepted instruction, in a block or at its beginning, without
    effects of it."""
    machine.memory.write(CODE, b"\x90" * ahead + code)
    before = machine.cpu.copy()
    for _ in range(2):
        machine.cpu.assign(before)
        assert machine.engine.run(machine.cpu) == INTERCEPT
        assert machine.engine.executed == ahead
        before.rip = CODE + ahead
        assert machine.cpu.state() == before.state()
        before.rip = CODE


def test_free_runs_follow_remapped_code(machine: Machine) -> None:
    """After a remap, the new code at the same address is executed and counted."""
    machine.memory.write(0x20000, b"\x48\xff\xc0" * 4 + b"\xeb\xf2")  # inc rax, four times; jmp back
    machine.memory.write(0x21000, b"\x48\x83\xc0\x01" * 3 + b"\xeb\xf2")  # add rax, 1, three times
    for page, block in ((0x20000, 5), (0x21000, 4), (0x20000, 5)):
        machine.map(0x30000, page)
        machine.cpu.rip, machine.cpu.gpr[RAX] = 0x30000, 0
        assert machine.engine.run(machine.cpu, 10 * block) == BUDGET_SPENT
        assert (machine.cpu.rip, machine.cpu.gpr[RAX]) == (0x30000, 10 * (block - 1))


def test_steps_and_runs_mix(machine: Machine) -> None:
    """Steps and free runs in any order neither lose nor repeat an instruction."""
    machine.memory.write(CODE, b"\x48\xff\xc0\xeb\xfb")
    done = 0
    for steps in (1, 3, 40, 2):
        assert machine.engine.run(machine.cpu, 100) == BUDGET_SPENT
        for _ in range(steps):
            assert machine.engine.step(machine.cpu) == STEPPED
        done += 100 + steps
        assert machine.cpu.gpr[RAX] == (done + 1) // 2


def test_only_what_is_executed_is_accessed(machine: Machine) -> None:
    """The page behind the code is not marked as accessed, stepped or in a run."""
    entry = PAGE_TABLE + 8 * ((CODE >> 12) + 1)
    machine.map(CODE + 0x1000, CODE + 0x1000)
    machine.memory.write(CODE, b"\x90" * 8 + b"\xf4")
    machine.cpu.rip = CODE
    assert machine.engine.step(machine.cpu) is STEPPED
    assert machine.engine.run(machine.cpu, 4) is BUDGET_SPENT
    assert not machine.memory.read_u64(entry) & 0x20


def test_says_where_the_registers_are(machine: Machine) -> None:
    """The headline names a host address."""
    assert "0x" in machine.engine.where()


def test_says_why_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Unicorn the probe and the constructor name the package to install."""

    def missing() -> None:
        raise UnavailableError("Unicorn is not installed: pip install unicorn")

    monkeypatch.setattr(capi, "version", missing)
    assert InterpreterEngine.probe() == "Unicorn is not installed: pip install unicorn"
    with pytest.raises(UnavailableError, match="pip install unicorn"):
        InterpreterEngine()


def test_intercepts_are_sensitive() -> None:
    """Every intercepted mnemonic is in the table of sensitive instructions."""
    unknown = [name for name in INTERCEPTS - {"mov cr"} if sensitive.find(name) is None]
    assert not unknown
