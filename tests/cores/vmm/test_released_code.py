"""A page of code that has been overwritten is a page of data again, and may become code once more."""

from __future__ import annotations

import pytest
from machine_lab import booted, needs_assembler

from cores.pc.stop import Stop
from cores.vmm.patching.code_page import CodePage
from cores.vmm.patching.patcher import Patcher

pytestmark = needs_assembler

CODE = 0x50000
OVERWRITTEN = f"""
    mov r15d, 6
next:
    mov rax, 0xc3e9e641b0            # mov al, 'A'; out 0xe9, al; ret
    add rax, 0
    mov [{CODE}], rax
    mov byte ptr [{CODE} + 1], r15b
    add byte ptr [{CODE} + 1], 64
    mov ebx, {CODE}
    call rbx
    mov edi, {CODE}                  # the page is cleared, and filled byte by byte
    mov ecx, 512
    xor eax, eax
    rep stosq
    mov edi, {CODE}
    mov ecx, 200
1:  mov byte ptr [rdi], cl
    inc edi
    dec ecx
    jnz 1b
    dec r15d
    jnz next
    xor eax, eax
    out 0xf4, al
"""


@pytest.mark.parametrize("hides", [True, False], ids=["hidden", "readable"])
def test_released(hides: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is stored to after that, these are no accesses to code beside data."""
    counted = []
    count = Patcher.count_data_access

    def counting(patcher: Patcher, page: CodePage) -> bool:
        counted.append(page.gpa)
        return count(patcher, page)

    monkeypatch.setattr(Patcher, "count_data_access", counting)
    with booted("trap:native", OVERWRITTEN) as machine:
        machine.engine.hides_code &= hides  # type: ignore[attr-defined]
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert machine.console() == "FEDCBA"
        assert len(counted) < 40
        assert machine.memory.view[CODE] == 200
