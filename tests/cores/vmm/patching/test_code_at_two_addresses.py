"""A page of code that is executed at two addresses: its branches lead elsewhere from each."""

from __future__ import annotations

import pytest
from machine_lab import booted, needs_assembler

pytestmark = needs_assembler

# P is at A and at B. Behind it are Q1 at A, Q2 at B. Both have been executed when P first is, at B.
GUEST = """
_start: mov     rax, cr3
        and     rax, -4096
        mov     rax, [rax]
        and     rax, -4096
        mov     rax, [rax]
        and     rax, -4096              # the page directory
        mov     qword ptr [rax + 8 * 3], 0x70003        # 0x600000
        mov     qword ptr [0x70000], 0x80003            # A
        mov     qword ptr [0x70008], 0x81003
        mov     qword ptr [0x70080], 0x80003            # B
        mov     qword ptr [0x70088], 0x82003
        mov     rax, cr3
        mov     cr3, rax
        lea     rsi, [rip + leave]
        mov     edi, 0x80000 + {at}
        mov     ecx, offset left - leave
        rep     movsb
        mov     byte ptr [0x810f0], 0xc3                # ret
        mov     dword ptr [0x81000 + {to}], 0x01b090    # nop; mov al, 1; ret
        mov     byte ptr [0x81003 + {to}], 0xc3
        mov     byte ptr [0x820f0], 0xc3
        mov     dword ptr [0x82000 + {to}], 0xc3585b9c  # pushfq; pop rbx; pop rax; ret
        mov     byte ptr [0x82002 + {to}], 0xc3         # in place of the latter
        cli
        mov     ecx, 40
1:      mov     eax, 0x6010f0
        call    rax
        mov     eax, 0x6110f0
        call    rax
        mov     eax, 0x600000 + {at}
        call    rax
        dec     ecx
        jnz     1b
        xor     ebx, ebx
        mov     eax, 0x610000 + {at}
        call    rax
        mov     eax, ebx
        shr     eax, 8
        out     0xe9, al                # IF is bit 9; and bit 1 is always set
        mov     eax, ebx
        out     0xe9, al
        out     0xf4, al
leave:  {leave}
left:
"""
WAYS = {
    "jmp": (0x10, 0x20, ".byte 0xe9\n.long 0x100b"),
    "jz": (0x10, 0x20, "cmp eax, eax\n.byte 0x0f, 0x84\n.long 0x1008"),
    "call": (0x10, 0x20, ".byte 0xe8\n.long 0x100b\nret"),
    "the next page": (0xFF0, 0, ".rept 16\nnop\n.endr"),
}


@pytest.mark.parametrize("core", ["trap:native", "trap:portable"])
@pytest.mark.parametrize("way", WAYS)
def test_a_way_out_of_the_page(way: str, core: str) -> None:
    """PUSHF, to which the page leads at its second address, shows the guest's IF, in free mode."""
    at, to, leave = WAYS[way]
    with booted(core, GUEST.format(at=at, to=to, leave=leave)) as machine:
        machine.run_free(60)
        assert (machine.console(), machine.vmm.exit_status) == ("\0F", 0x46)
