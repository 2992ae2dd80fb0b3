"""The time limit of one instruction."""

from __future__ import annotations

import pytest
from machine_lab import CORES, booted, needs_assembler

from cores import deadline
from cores.pc.stop import Stop

pytestmark = needs_assembler

CIRCLE = """
    mov rsp, 0x9f000
    mov rdi, 0x80000            # PML4, PDPT and PD, in which every entry leads to the next one
    mov rax, 0x81003
    mov ecx, 256
    rep stosq
    mov edi, 0x81000
    mov eax, 0x82003
    mov ecx, 512
    rep stosq
    mov eax, {leaf}
    mov ecx, 512
    rep stosq
    mov qword ptr [0x82000], 0x83
    mov edi, 0x83000
    mov eax, 0xb8003
    mov ecx, 512
    rep stosq
    mov eax, 0x80000
    mov cr3, rax
    mov rcx, 0x7fffffc00000
    mov esi, 0x200000
    mov edi, 0x200000
    xor eax, eax
"""
STRINGS = {
    "lodsb": "rep lodsb",
    "lodsq": ".byte 0xf2, 0x48, 0xad",
    "scasb": "mov al, 0x53\nadd al, 0x54\nrepne scasb",  # a byte that stands nowhere
}
LEAVES = {"RAM": "0x83", "the screen": "0x83003"}


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("string", STRINGS)
def test_an_endless_string_ends(
    core: str, leaf: str, string: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A REP of 2**47 iterations, over RAM or a device that repeats, ends with a reason on every
    core."""
    monkeypatch.setattr(deadline, "LONGEST", 0.2)
    with booted(core, CIRCLE.format(leaf=LEAVES[leaf]) + STRINGS[string]) as machine:
        while machine.stop is None:
            machine.step()
        assert machine.stop is Stop.ERROR
        assert "kept the host at work" in machine.vmm.reason
