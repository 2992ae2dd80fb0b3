"""#AC by the size of each access (SDM vol. 3, table 6-7), and by what the platform decides."""

from __future__ import annotations

import pytest

from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import decode
from cores.x86.isa.operand_checks import check_alignment
from cores.x86.registers import CS, RDI, SS, Cr0, Flag, Vector
from cores.x86.virtual_cpu import Segment, VirtualCpu

AT = 0x30000
RAISED = {  # the code of an access to [rdi], and the alignment that it asks for
    "8807": 1,  # mov [rdi], al
    "668907": 2, "8907": 4, "488907": 8,
    "f30f1007": 4,  # movss
    "f20f1007": 8,  # movsd
    "0f1007": 16, "660f1007": 16, "f30f6f07": 16, "f20ff007": 16,  # movups, movupd, movdqu, lddqu
    "660f3a630700": 16,  # pcmpistri
    "660ff7c1": 8, "0ff7c1": 8,  # maskmovdqu, maskmovq
    "db2f": 8,  # fld tbyte
    "d937": 4, "66d937": 2,  # fnstenv
    "0fae17": 4,  # ldmxcsr
    "f3a5": 4,  # rep movsd
}  # fmt: skip
"""As an AMD EPYC raises it."""


def user() -> VirtualCpu:
    cpu = VirtualCpu()
    cpu.cr0 |= Cr0.PE | Cr0.PG | Cr0.AM
    cpu.rflags |= Flag.AC
    cpu.segments[CS] = Segment(0x33, 0, 0xFFFFFFFF, 0xA0FB)
    cpu.segments[SS] = Segment(0x2B, 0, 0xFFFFFFFF, 0xC0F3)
    cpu.gpr[:] = [1, 1, 0, 0, AT, 0, AT, 0, *[0] * 8]
    return cpu


def raises(code: str, cpu: VirtualCpu) -> bool:
    try:
        check_alignment(decode(bytes.fromhex(code)), cpu)
    except GuestFault as fault:
        return (fault.vector, fault.error) == (Vector.AC, 0)
    return False


@pytest.mark.parametrize(("code", "unit"), RAISED.items())
def test_each_access_has_its_alignment(code: str, unit: int) -> None:
    """#AC(0) is raised at every address but the multiples of the access's alignment."""
    cpu = user()
    for offset in range(17):
        cpu.gpr[RDI] = AT + offset
        assert raises(code, cpu) == bool(offset % unit), offset


@pytest.mark.parametrize("without", ["AM", "AC", "ring 3"])
def test_alignment_is_checked_for_user_code_that_asks_for_it(without: str) -> None:
    """Without CR0.AM, EFLAGS.AC or CPL 3 no address raises #AC."""
    cpu = user()
    cpu.gpr[RDI] = AT + 1
    assert raises("8907", cpu)
    if without == "AM":
        cpu.cr0 &= ~Cr0.AM
    elif without == "AC":
        cpu.rflags &= ~Flag.AC
    else:
        cpu.segments[SS] = Segment(0x18, 0, 0xFFFFFFFF, 0xC093)
    assert not raises("8907", cpu)
