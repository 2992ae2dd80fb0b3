"""x87 registers that MMX instructions have written."""

from __future__ import annotations

import pytest
from machine_lab import booted, needs_assembler, run

from cores.pc.stop import Stop

pytestmark = needs_assembler


@pytest.mark.parametrize("core", ["interpreter", "trap:native", "trap:portable", "kvm"])
def test_exponents_of_mmx(core: str) -> None:
    """The exponent of a written register is all ones, as FNSAVE shows; that of others stays."""
    source = (
        "fninit\npaddb mm0, mm7\nmovd eax, mm3\nmovq [0x40200], mm4\nmovd mm2, eax\nemms\n"
        "fnsave [0x40000]\nmov al, 0\nout 0xf4, al\n"
    )
    with booted(core, source) as machine:
        run(machine)
        if machine.stop is Stop.ERROR and core == "kvm":
            pytest.skip(machine.vmm.reason)  # where the host's kernel interprets ring 0
        assert machine.stop is Stop.EXIT
        registers = [machine.memory.read(0x4001C + 10 * n, 10) for n in range(8)]
    written = bytes(8) + b"\xff\xff"
    assert registers == [written, bytes(10), written, *[bytes(10)] * 5]
