"""Trap cores on a host that can map nothing: every instruction runs out of line, with the same
results."""

from __future__ import annotations

import pytest
from agreement_lab import GUESTS, free, lockstep, named, program, skip_unless_assembled

from cores.engines import registry
from cores.engines.base import OUT_OF_LINE
from cores.lockstep.options import Options
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program
from tests.sampling import sampled

pytestmark = [skip_unless_assembled(), pytest.mark.usefixtures("nothing_mapped")]
CORES = ("trap:native", "trap:portable")
SIZES = """
        mov     rsp, 0x60000
        mov     rbx, 0x8877665544332211
        mov     [rip + here], rbx
        mov     eax, -1
""" + "\n".join(
    [f"crc32 {to}, {size} ptr [rip + here]" for to in ("eax", "rax")
     for size in (("byte", "word", "dword") if to == "eax" else ("byte", "qword"))]
    + [f"popcnt {register}, [rip + here]" for register in ("cx", "ecx", "rcx")]
    + [f"{shift} [rip + here], {register}, 5" for shift in ("shld", "shrd")
       for register in ("bx", "ebx", "rbx")]
    + [f"lock neg {size} ptr [rip + here]" for size in ("byte", "word", "dword", "qword")]
    + [f"test {size} ptr [rip + here], 0x41" for size in ("byte", "word", "dword", "qword")]
    + ["cli", "hlt", "here: .quad 0"]
)  # fmt: skip
"""What the emulator completes in place of Unicorn, with each size of its operand."""
FREE = ("instructions_up_high", "loops", "strings", "page_zero", "higher_half", "user_up_high")


@pytest.fixture
def nothing_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every page of the guest's unmappable; the VMM's own pages stay mappable."""
    for core in CORES:
        if registry.availability(core).available:
            engine = registry.create(core)
            engine.close()
            monkeypatch.setattr(type(engine), "reaches", lambda _, gva, length: gva in OUT_OF_LINE)


def pair(core: str) -> list[str]:
    if reason := registry.availability(core).reason:
        pytest.skip(f"{core}: {reason}")
    return ["interpreter", core]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", sampled(named(free=False), 4))
def test_exact(name: str, core: str) -> None:
    """Out of line, each step gives the interpreter's registers, memory, device accesses and faults."""
    reference, bridged = lockstep(program(name), GUESTS[name].run_options, pair(core))
    assert bridged.told == reference.told
    assert bridged.device_accesses == reference.device_accesses


@pytest.mark.parametrize("core", CORES)
def test_each_size(core: str) -> None:
    """Operands of each size are accessed in that size."""
    reference, bridged = lockstep(assemble_program(SIZES.encode(), "sizes.s"), Options(), pair(core))
    assert bridged.told == reference.told
    assert reference.stop is Stop.HALTED


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", FREE)
def test_free(name: str, core: str) -> None:
    """In free mode the guest ends alike, too."""
    reference, bridged = (free(program(name), GUESTS[name].run_options, c) for c in pair(core))
    assert bridged.told == reference.told
