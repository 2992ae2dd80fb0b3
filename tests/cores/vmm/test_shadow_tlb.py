"""The virtual TLB is filled on demand, dropped on the guest's request, and bounded."""

from __future__ import annotations

import pytest
from machine_lab import EXIT, TRAPS, booted, needs_assembler, run

from cores.engines.base import KERNEL_SPACE, USER_SPACE
from cores.machine.machine import Machine
from cores.pc.stop import Stop
from cores.vmm import shadow_tlb as shadow
from cores.vmm.shadow_tlb import ShadowPages
from cores.x86.isa.instruction import Reason

pytestmark = needs_assembler

OWN_TABLES = """
    mov rax, cr3
    mov cr3, rax
"""


def shadow_of(machine: Machine) -> ShadowPages:
    assert machine.vmm.shadow is not None
    return machine.vmm.shadow


@pytest.mark.parametrize("core", TRAPS)
def test_mapped_ahead(core: str) -> None:
    """The boot tables' mappings exist before the first instruction, so no access needs a fill."""
    touches = "".join(f"mov [{page << 12:#x}], rax\n" for page in (0x10, 0x20, 0x9F, 0x150))
    with booted(core, touches + EXIT) as machine:
        assert shadow_of(machine).host.ahead
        run(machine)
        assert Reason.SHADOW not in machine.vmm.trace.by_reason


@pytest.mark.parametrize("core", TRAPS)
def test_a_new_cr3_empties_it(core: str) -> None:
    """After a CR3 load each page that is executed or accessed is filled once."""
    touches = "".join(f"mov rbx, [{page << 12:#x}]\n" * 3 for page in (0x20, 0x21, 0x22))
    with booted(core, OWN_TABLES + touches + EXIT) as machine:
        run(machine)
        assert not shadow_of(machine).host.ahead
        assert machine.vmm.trace.by_reason[Reason.SHADOW] == 4
        assert shadow_of(machine).fills == 4


@pytest.mark.parametrize("core", TRAPS)
def test_a_clean_page_faults_once_more(core: str) -> None:
    """A page read first and then written is filled again, which sets D as a CPU does."""
    source = OWN_TABLES + "mov rbx, [0x20000]\nmov [0x20000], rbx\nmov [0x20008], rbx\n" + EXIT
    with booted(core, source) as machine:
        machine.memory.view[0x15000 + 8 * 0x20] &= ~0x60 & 0xFF
        run(machine)
        assert machine.memory.view[0x15000 + 8 * 0x20] & 0x60 == 0x60
        assert shadow_of(machine).fills == 3


@pytest.mark.parametrize("core", TRAPS)
def test_invlpg_drops_one_page(core: str) -> None:
    """INVLPG drops its page, not the neighbour."""
    source = OWN_TABLES + "mov rbx, [0x20000]\nmov rbx, [0x21000]\ninvlpg [0x20000]\n"
    source += "mov rbx, [0x21000]\nmov rbx, [0x20000]\n" + EXIT
    with booted(core, source) as machine:
        run(machine)
        assert shadow_of(machine).fills == 4


@pytest.mark.parametrize("core", TRAPS)
def test_bounded(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit old mappings are dropped, unnoticed by the guest."""
    monkeypatch.setattr(shadow, "MOST_ENTRIES", 8)
    loop = "mov edi, 0x20000\nturn: add [rdi], rdi\nadd rdi, 0x1000\ncmp edi, 0x60000\njb turn\n"
    with booted(core, OWN_TABLES + loop + EXIT) as machine:
        most = 0
        while machine.stop is None:
            machine.step()
            most = max(most, len(shadow_of(machine).mappings()))
        assert machine.stop is Stop.EXIT
        assert most <= 8
        for page in range(0x20000, 0x60000, 0x1000):
            assert int.from_bytes(machine.memory.view[page : page + 8], "little") == page


@pytest.mark.parametrize("core", TRAPS)
def test_a_space_for_each_ring(core: str) -> None:
    """Guest kernel and guest user have separate mappings."""
    source = """
    or byte ptr [0x12000], 4
    or byte ptr [0x13000], 4
    or byte ptr [0x14000], 4
    or byte ptr [0x15800], 4
    mov rax, cr3
    mov cr3, rax
    mov rbx, [0x20000]
    push 0x2b
    push 0x100800
    push 2
    push 0x33
    lea rax, [rip + user]
    push rax
    iretq
user:
    nop
    mov rbx, [0x20000]
"""
    with booted(core, source) as machine:
        run(machine)
        assert machine.stop is Stop.SHUTDOWN
        assert "#PF at 0x20000" in machine.vmm.reason
        mapped = {(space, gva) for space, gva, _, _ in shadow_of(machine).mappings()}
        assert (KERNEL_SPACE, 0x20000) in mapped
        assert (USER_SPACE, 0x20000) not in mapped
        assert (USER_SPACE, 0x100000) in mapped


@pytest.mark.parametrize("core", TRAPS)
def test_large_pages_are_one_mapping(core: str) -> None:
    """A 2 MiB page is mapped and dropped as a whole."""
    source = OWN_TABLES + "mov rbx, [0x200000]\nmov rbx, [0x3ff000]\ninvlpg [0x300000]\n"
    source += "mov rbx, [0x200000]\n" + EXIT
    with booted(core, source, ram=4 << 20) as machine:
        run(machine)
        assert shadow_of(machine).fills == 3
        assert (KERNEL_SPACE, 0x200000, 0x200000, 2 << 20) in shadow_of(machine).mappings()
