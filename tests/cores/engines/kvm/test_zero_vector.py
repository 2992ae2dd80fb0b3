"""An INT in real mode whose vector is zero, found behind its delivery."""

from __future__ import annotations

import pytest

from cores.engines.kvm.zero_vector import take_back
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import Ram
from cores.x86.mmu.paging import Mmu
from cores.x86.registers import CS, RSP, SS, Flag
from cores.x86.virtual_cpu import Segment, VirtualCpu


@pytest.mark.parametrize(
    ("code", "vector", "called"),
    [("cd10", 0, True), ("cd10", 0x12345678, False), ("90cc", 0, False)],
    ids=["int 0x10", "a vector that is set", "another instruction"],
)
def test_an_int_is_taken_back(code: str, vector: int, called: bool) -> None:
    """The CPU is at the INT again, with stack and flags as before; else nothing changes."""
    memory, cpu = PhysicalMemory(Ram(2 << 20)), VirtualCpu()
    memory.write(0x40, vector.to_bytes(4, "little"))
    memory.write(0x7C04, bytes.fromhex(code))
    memory.write(0x17FFA, bytes.fromhex("0600 c007 4602"))  # IP, CS and FLAGS
    cpu.cr0, cpu.rip, cpu.gpr[RSP], cpu.rflags = 0, 0, 0xFFFA, 2
    cpu.segments[CS] = Segment(0, 0, 0xFFFF, 0x9B)
    cpu.segments[SS] = Segment(0x800, 0x8000, 0xFFFF, 0x93)
    assert take_back(Mmu(memory, cpu), cpu) is called
    if called:
        assert (cpu.segments[CS].selector, cpu.segments[CS].base, cpu.rip) == (0x7C0, 0x7C00, 4)
        assert cpu.gpr[RSP] == 0
        assert cpu.rflags == 2 | Flag.PF | Flag.ZF | Flag.IF
    else:
        assert (cpu.segments[CS].selector, cpu.rip, cpu.gpr[RSP]) == (0, 0, 0xFFFA)
