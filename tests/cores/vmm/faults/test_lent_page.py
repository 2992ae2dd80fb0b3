"""The local APIC's page, lent to a guest that runs freely on this CPU."""

from __future__ import annotations

import pytest
from machine_lab import booted, needs_assembler, require

from cores.pc.stop import Stop
from cores.vmm.faults.lent_page import LENT
from cores.x86.isa.instruction import Reason

pytestmark = needs_assembler

LOADS = 500
MAPPED = """
    mov dword ptr [0x13018], 0x60003
    mov dword ptr [0x60fb8], 0xfee00083
    mov edi, 0xfee00000
"""
ASK = f"""
    mov ecx, {LOADS}
1:  add ebp, [rdi + 0x20]
    mov edx, [rdi + 0x30]
    dec ecx
    jnz 1b
"""
END = "xor eax, eax\nout 0xf4, al\n"


@pytest.mark.parametrize("slow", [False, True], ids=["short", "slow"])
def test_loads_that_do_not_exit(slow: bool) -> None:
    """After a few loads the guest reads the registers in a page of its own, as stores and an interrupt
    leave them, however its exits are handled."""
    require("trap:native")
    source = f"""{MAPPED}{ASK}
    mov dword ptr [rdi + 0x80], 0x20
    mov ebx, [rdi + 0x80]
    mov dword ptr [rdi + 0x300], 0x41           # an IPI to itself, with IF = 0
    mov dword ptr [rdi + 0x310], 0
    mov esi, [rdi + 0x220]                      # IRR of vectors 0x40 to 0x5f
    {END}"""
    with booted("trap:native", source, slow=slow) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        general = machine.cpu.gpr
        assert (general[2], general[3], general[5], general[6]) == (0x50014, 0x20, 0, 2)
        assert machine.board.accesses < 100
        assert machine.vmm.trace.by_reason[Reason.MMIO] < 100
        assert LENT in machine.vmm.notes


@pytest.mark.parametrize("how", ["mov eax, [rdi + 0x390]", "lea rax, [rdi + 0x390]\nmov eax, [rax]"])
def test_the_count_is_asked_for(how: str) -> None:
    """A guest that loads the current count does not get the page: each load is an access."""
    require("trap:native")
    with booted("trap:native", f"{MAPPED}{how}\n{ASK}{how}\n{END}") as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert machine.board.accesses >= 2 * LOADS + 2
        assert LENT not in machine.vmm.notes


def test_code_that_may_ask_for_the_count() -> None:
    """The page is taken back when code is met that may load the current count."""
    require("trap:native")
    source = f"""{MAPPED}{ASK}
    mov dword ptr [rdi + 0x3e0], 0xb
    mov dword ptr [rdi + 0x380], 0x7fffffff
    jmp far
    .balign 4096
far:
    mov eax, [rdi + 0x390]
    mov ebx, [rdi + 0x390]
    mov ecx, 1000
2:  cmp ebx, [rdi + 0x390]
    jne 3f
    dec ecx
    jnz 2b
3:  {END}"""
    with booted("trap:native", source) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert LENT in machine.vmm.notes
        assert machine.cpu.gpr[1], "the count stood still"


COUNT_DOWN = """
    mov dword ptr [rdi + 0x3e0], 0xb
    mov dword ptr [rdi + 0x380], 0x7fffffff
    mov eax, 0x390
    call ask
    mov ebx, eax
    mov ecx, 1000
2:  mov eax, 0x390
    call ask
    cmp ebx, eax
    jne 3f
    dec ecx
    jnz 2b
3:
"""


@pytest.mark.parametrize("how", ["mov eax, [rdi + rax]", "add eax, edi\nmov eax, [rax]"])
@pytest.mark.parametrize("before", [True, False], ids=["a register before", "the count alone"])
def test_a_function_that_loads_any_register(how: str, before: bool) -> None:
    """The count moves in a guest that loads registers by their number, whether or not it has loaded
    another one so before it started the timer."""
    require("trap:native")
    asks = "mov ebp, 500\n4: mov eax, 0x20\ncall ask\ndec ebp\njnz 4b\n"
    source = f"mov rsp, 0x9f000\n{MAPPED}{asks if before else ASK}{COUNT_DOWN}{END}ask: {how}\nret\n"
    with booted("trap:native", source) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert machine.cpu.gpr[1], "the count stood still"
        assert (LENT in machine.vmm.notes) is not before


def test_data_that_lies_at_the_counts_offset() -> None:
    """An operand at 0x390 of another page is none of the local APIC's, nor is a store."""
    require("trap:native")
    source = f"""{MAPPED}
    mov eax, [0x60390]
    mov dword ptr [rdi + 0x398], eax
    lea rsi, [0x61000]
    mov eax, [rsi - 0xc70]
    {ASK}{END}"""
    with booted("trap:native", source) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert LENT in machine.vmm.notes


def test_another_page_in_its_place() -> None:
    """INVLPG takes the page away from where it was."""
    require("trap:native")
    source = f"""{MAPPED}{ASK}
    mov dword ptr [0x60fb8], 0x200083
    invlpg [rdi]
    mov dword ptr [0x200020], 0x12345678
    mov ebx, [rdi + 0x20]
    {END}"""
    with booted("trap:native", source, ram=4 << 20) as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert machine.cpu.gpr[3] == 0x12345678
