"""A kick by a doorbell is served before what the guest does next with the device, as on every core."""

from __future__ import annotations

import pytest
from machine_lab import needs_assembler, require

from cores.lockstep.options import Options
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program
from cores.runs.compare import compare

KICKS = 50
GUEST = f"""
# A console's queue is set up again and again, with a chain that is a loop; the status says so.
        mov     dword ptr [0x17000 + 128 * 8], 0xd0000093
        mov     qword ptr [0x13018], 0x17003
        mov     ebx, 0xd0000000
        mov     dword ptr [0x20000], 0x30000    # the descriptor: 16 bytes, and it comes again
        mov     dword ptr [0x20008], 16
        mov     dword ptr [0x2000c], 1
        mov     word ptr [0x20102], 1           # one chain, descriptor 0
        mov     ebp, {KICKS}
again:  lea     rsi, [rip + words]
        mov     ecx, offset words_end - words
        shr     ecx, 3
each:   lodsd
        mov     edx, eax
        lodsd
        mov     [rbx + rdx], eax
        loop    each
        mov     eax, [rbx + 0x70]
        test    al, 0x40                        # DEVICE_NEEDS_RESET
        jz      late
        dec     ebp
        jnz     again
        xor     eax, eax
        jmp     end
late:   mov     eax, 1
end:    out     0xf4, al
        .balign 4096
words:  .long   0x70, 0, 0x70, 3, 0x24, 0, 0x20, 0, 0x24, 1, 0x20, 1, 0x70, 11
        .long   0x30, 1, 0x38, 8, 0x80, 0x20000, 0x84, 0, 0x90, 0x20100, 0x94, 0, 0xa0, 0x20200, 0xa4, 0
        .long   0x44, 1, 0x70, 15, 0x50, 1
words_end:
"""


@needs_assembler
@pytest.mark.parametrize("core", ["interpreter", "trap:native", "kvm"])
def test_the_status_after_a_kick(core: str) -> None:
    """It tells at once that the chain was a loop: with a doorbell too, although a thread hears it."""
    require(core)
    options = Options(cores=(core,), free=True, virtio=("console",), budget=300)
    (report,) = compare(assemble_program(GUEST.encode(), "kicks.s"), options).cores
    assert (report.stop, report.exit_status) == (Stop.EXIT, 0)
    assert any("virtio-console needs a reset: its driver made a chain" in n for n in report.notes)
