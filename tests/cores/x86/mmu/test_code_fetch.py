"""Code outside RAM: refused with the same sentence on every core."""

from __future__ import annotations

import pytest
from machine_lab import CORES, booted, needs_assembler, require, run

from cores.engines import registry
from cores.pc.stop import Stop

SOURCE = """
    mov rdi, 0xb8000
    mov dword ptr [rdi], 0x90909090
    jmp rdi
"""


@needs_assembler
@pytest.mark.parametrize("free", [False, True], ids=["exact", "free"])
@pytest.mark.parametrize("core", CORES)
def test_a_device_holds_no_code(core: str, free: bool) -> None:
    """A jump into the screen's memory stops every core with an error that names the address."""
    require(core)
    if not free and not registry.create(core).traits.exact:
        pytest.skip(f"{core} has no exact mode on this host")
    with booted(core, SOURCE) as machine:
        if free:
            machine.run_free(10)
        else:
            run(machine)
        assert machine.stop is Stop.ERROR
        assert machine.vmm.reason.startswith("the guest executes a device's memory, at 0xb8000:")
