"""The portable trap engine: its page tables, and its ring 3."""

from __future__ import annotations

import pytest

from cores.engines.base import INTERCEPT, Fault
from cores.engines.unicorn import capi

if reason := capi.probe():
    pytest.skip(reason, allow_module_level=True)

from cores.engines.portable.engine import PortableTrapEngine
from cores.engines.portable.page_tables import HiddenTables
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import Ram
from cores.x86.mode import CODE_64
from cores.x86.registers import CS, RAX, Cr0, Cr4, Efer, Vector
from cores.x86.virtual_cpu import VirtualCpu

PAGE, LARGE, BASE = 4096, 2 << 20, 1 << 36


def test_large_pages_come_apart() -> None:
    """Unmapping a page inside a large one keeps the rest mapped."""
    tables = HiddenTables(BASE)
    tables.map(0, LARGE, 2 * LARGE, LARGE, writable=True, executable=True)
    tables.unmap(0, LARGE + PAGE, PAGE)
    assert tables.translate(0, LARGE + 5) == 2 * LARGE + 5
    assert tables.translate(0, LARGE + PAGE) is None
    assert tables.translate(0, LARGE + 2 * PAGE + 7, execute=True) == 2 * LARGE + 2 * PAGE + 7
    tables.close()


def test_small_pages_over_a_large_one() -> None:
    """A page mapped into a large one replaces that page only."""
    tables = HiddenTables(BASE)
    tables.map(0, LARGE, 2 * LARGE, LARGE, writable=True, executable=True)
    tables.map(0, LARGE + PAGE, 0x5000, PAGE, writable=True, executable=False)
    assert tables.translate(0, LARGE + PAGE) == 0x5000
    assert tables.translate(0, LARGE + PAGE, execute=True) is None
    assert tables.translate(0, LARGE) == 2 * LARGE
    tables.close()


def test_spaces_are_apart() -> None:
    """A mapping in one space is not in the other; dropping empties both."""
    tables = HiddenTables(BASE)
    tables.map(1, PAGE, PAGE, PAGE, writable=True, executable=True)
    assert tables.translate(0, PAGE) is None
    assert tables.translate(1, PAGE) == PAGE
    tables.drop_all()
    assert tables.translate(1, PAGE) is None
    tables.close()


def test_tables_never_run_out() -> None:
    """When the memory for tables is full, all mappings but the newest are dropped."""
    tables = HiddenTables(BASE)
    for i in range(3000):
        gva = i << 30
        tables.map(0, gva, PAGE, PAGE, writable=True, executable=False)
        assert tables.translate(0, gva) == PAGE
    tables.close()


def guest(code: bytes) -> tuple[PortableTrapEngine, PhysicalMemory, VirtualCpu]:
    engine, memory, cpu = PortableTrapEngine(), PhysicalMemory(Ram(LARGE)), VirtualCpu()
    engine.load(memory)
    memory.write(0x10000, code)
    assert engine.map(0, 0x10000, 0x10000, PAGE, writable=True, executable=True)
    cpu.rip, cpu.cr0, cpu.cr4 = 0x10000, (Cr0.PG | Cr0.PE), (Cr4.PAE | Cr4.OSFXSR)
    cpu.efer, cpu.segments[CS].attributes = Efer.LME | Efer.LMA, CODE_64
    return engine, memory, cpu


@pytest.mark.parametrize(
    ("code", "value"), [(b"\x8c\xc8", 0x33), (b"\x8c\xd0", 0x2B), (b"\x0f\x01\xe0", 0x80050033)]
)
def test_sensitive_instructions_give_the_host_away(code: bytes, value: int) -> None:
    """With --pure, sensitive instructions show the real ring 3."""
    engine, memory, cpu = guest(code)
    engine.step(cpu)
    assert cpu.gpr[RAX] == value
    engine.close()
    memory.ram.close()


@pytest.mark.parametrize("code", [b"\x8c\xc8", b"\x9c", b"\x0f\xa2", b"\x0f\x01\x06", b"\x48\xcf"])
def test_free_runs_find_what_does_not_trap(code: bytes) -> None:
    """A free run stops before each sensitive instruction."""
    engine, memory, cpu = guest(b"\x90\x90" + code)
    assert engine.run(cpu) == INTERCEPT
    assert (engine.executed, cpu.rip) == (2, 0x10002)
    engine.close()
    memory.ram.close()


def test_disabled_sse_faults_in_free_runs() -> None:
    """CR0.TS and CR4.OSFXSR of the virtual CPU are obeyed."""
    engine, memory, cpu = guest(b"\x0f\x57\xc0")  # xorps xmm0, xmm0
    cpu.cr0 |= Cr0.TS
    assert engine.run(cpu) == Fault(Vector.NM)
    cpu.cr0, cpu.cr4 = (Cr0.PG | Cr0.PE), Cr4.PAE
    assert engine.run(cpu) == Fault(Vector.UD)
    engine.close()
    memory.ram.close()
