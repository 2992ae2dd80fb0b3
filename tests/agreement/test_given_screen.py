"""``--give screen``: the guest has the screen's memory itself, in free mode, on every core."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cores.engines.registry import CORE_NAMES, availability
from cores.lockstep.options import Options
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program
from cores.runs.compare import compare
from cores.vmm.given_screen import COUNTED, GIVEN

SCREEN = assemble_program(b"""
        mov     edi, 0xb8000 + 320
        lea     rsi, [rip + text]
next:   lodsb
        mov     ah, 0x1f
        stosw                           # a store
        xor     byte ptr [rdi - 1], 8   # and a load with a store, of the colour
        cmp     al, '!'
        jne     next
        mov     ecx, 40
        mov     edi, 0xb8000 + 480
        mov     eax, 0x1f2d1f2d
        rep     stosd                   # a line
        mov     rax, cr3                # all translations are forgotten
        mov     cr3, rax
        mov     byte ptr [0xb8000 + 640], '.'
        movzx   eax, byte ptr [0xb8000 + 321]
        out     0xf4, al
        cli
        hlt
text:   .ascii  "The screen is mine!"
""", "screen.s")  # fmt: skip


@pytest.mark.parametrize("core", CORE_NAMES)
def test_no_access_to_the_screen(core: str) -> None:
    """The screen shows what it shows else, with neither an exit nor a device access for it."""
    if reason := availability(core).reason:
        pytest.skip(f"{core}: {reason}")
    options = Options(cores=(core,), free=True, budget=60)
    (plain,) = compare(SCREEN, options).cores
    (given,) = compare(SCREEN, replace(options, give=("screen",))).cores
    assert plain.screen == given.screen == f"\n\nThe screen is mine!\n{'-' * 80}\n."
    assert (given.stop, given.exit_status) == (Stop.EXIT, 0x17)
    assert plain.device_accesses == 100
    assert given.device_accesses == 1
    assert "mmio" not in given.exits_by_reason
    assert GIVEN in given.notes


def test_exact_mode_counts() -> None:
    """In exact mode each access counts as ever, and a note says so; the cores agree."""
    options = Options(cores=("interpreter", "trap"), give=("screen",))
    report = compare(SCREEN, options)
    assert report.equivalent
    assert report.cores[0].device_accesses == 100
    assert all(COUNTED in core.notes for core in report.cores)


@pytest.mark.parametrize("core", ["interpreter", "trap"])
def test_until(core: str) -> None:
    """A text that ends the run is seen on a screen that the guest writes by itself."""
    looping = assemble_program(b"mov byte ptr [0xb8000], 'Q'\nhere: jmp here", "loop.s")
    options = Options(cores=(core,), free=True, budget=60, give=("screen",), until="Q")
    (report,) = compare(looping, options).cores
    assert (report.stop, report.screen) == (Stop.UNTIL, "Q")
