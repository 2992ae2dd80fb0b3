"""Performance counters that are reset without asking, as kvm-unit-tests do, on every core."""

from __future__ import annotations

import pytest
from machine_lab import CORES, booted, needs_assembler, run

from cores.pc.stop import Stop

pytestmark = needs_assembler

RESET = """
    mov     ebx, 8
    mov     ecx, 0xc0010000
1:  xor     eax, eax
    xor     edx, edx
    wrmsr
    mov     eax, 7
    mov     edx, 7
    rdmsr
    or      eax, edx
    jnz     2f
    inc     ecx
    dec     ebx
    jnz     1b
    mov     al, 1
    out     0xf4, al
2:  mov     al, 2
    out     0xf4, al
"""


@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
@pytest.mark.parametrize("core", CORES)
def test_they_can_be_reset(core: str, free: bool) -> None:
    """Each reads 0 after 0 was written."""
    with booted(core, RESET) as machine:
        if free:
            machine.run_free(60)
        else:
            run(machine)
        assert (machine.stop, machine.vmm.exit_status) == (Stop.EXIT, 1), machine.vmm.reason
