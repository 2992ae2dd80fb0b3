"""Trap cores on a CPU with 5-level paging, which takes 1 << 47 for an ordinary address.

What such a CPU reports is played by a script: a page fault where a CPU with 48 bits raises #GP or #SS
(SDM vol. 1, 3.3.7.1, and vol. 3, 4.5).
"""

from __future__ import annotations

import pytest

from cores.engines.base import Fault
from cores.engines.ptrace import stops
from cores.engines.scripted import ScriptedTrapEngine, Turn
from cores.machine.machine import Machine
from cores.pc.stop import Stop
from cores.programs.program import Program, Segment
from cores.x86.registers import GPR_NAMES, Vector

BEYOND = 1 << 47
CODE = 0x100000


def met(code: str, reported: Turn, **registers: int) -> str:
    """The fault that shuts down a guest without handlers, in words."""
    data = bytes.fromhex(code).ljust(16, b"\x90")
    program = Program("scripted", "flat", CODE, (Segment(CODE, data, 16),), "")
    machine = Machine(program, ScriptedTrapEngine([reported]), ram=2 << 20)
    try:
        for name, value in registers.items():
            machine.cpu.gpr[GPR_NAMES.index(name)] = value
        machine.step()
        assert machine.stop is Stop.SHUTDOWN
        return machine.vmm.reason
    finally:
        machine.close()


@pytest.mark.parametrize(
    ("code", "registers", "address", "name"),
    [
        ("488b03", {"rbx": BEYOND}, BEYOND, "#GP"),  # mov rax, [rbx]
        ("488903", {"rbx": BEYOND + 5}, BEYOND + 5, "#GP"),
        ("488b03", {"rbx": 0xFF00_0000_0000_0000}, 0xFF00_0000_0000_0000, "#GP"),
        ("488b4500", {"rbp": BEYOND}, BEYOND, "#SS"),  # mov rax, [rbp]
        ("50", {"rsp": BEYOND + 8}, BEYOND, "#SS"),  # push rax
        ("c3", {"rsp": BEYOND}, BEYOND, "#SS"),
        ("0f1003", {"rbx": BEYOND - 8}, BEYOND - 8, "#GP"),  # movups: the beginning is canonical
    ],
)
def test_a_page_fault_there_is_the_platforms_fault(
    code: str, registers: dict[str, int], address: int, name: str
) -> None:
    """A page fault there becomes #GP(0), or #SS(0) by RSP and RBP, as with 48 linear bits."""
    reported = Turn(Fault(Vector.PF, None, address))
    assert met(code, reported, **registers).startswith(f"{name}(0x0) at RIP 0x100000")


def test_a_call_there_pushes_nothing() -> None:
    """The VMM refuses a CALL to such an address before it is entered, since the CPU would push."""
    arrives = Turn(changes={"rip": BEYOND})
    assert met("ffd0", arrives, rax=BEYOND).startswith("#GP(0x0) at RIP 0x100000")


@pytest.mark.parametrize(
    ("rip", "refused"),
    [
        (BEYOND, True),
        (BEYOND - 1, False),
        (0xFFFF_8000_0000_0000, False),
        (0xFF00_0000_0000_0000, True),
    ],
)
def test_a_branch_that_arrives_is_undone(rip: int, refused: bool) -> None:
    """A step that ends at such a RIP is reported as the branch's #GP(0)."""
    assert stops.refused_branch(rip) == (Fault(Vector.GP, 0) if refused else None)
