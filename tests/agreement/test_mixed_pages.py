"""Pages that hold code and data, running freely on the real CPU, where the CPU has protection keys and
where it has none: what is patched in the twin (cores/vmm/patching/twin.py) stays there."""

from __future__ import annotations

from contextlib import closing

import pytest

from cores.engines import registry
from cores.engines.ptrace import host_support
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.machine.machine import Machine
from cores.programs.assembler import keystone as assembler
from cores.programs.loader import assemble_program

HERE = registry.availability("trap:native")
KEYS = host_support.has_protection_keys()
pytestmark = [
    pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed"),
    pytest.mark.skipif(not HERE.available, reason=f"trap:native: {HERE.reason}"),
]

# All RAM is mapped once more, 1 GiB higher. R8 takes what is found.
BEGIN = """
        mov     rsp, 0x90000
        mov     rax, cr3
        mov     rbx, [rax]
        and     rbx, -4096
        mov     rcx, [rbx]
        mov     [rbx + 8], rcx
        mov     cr3, rax
        lea     rbp, [rip + mixed]
        mov     r12d, 0x40000000
        add     r12, rbp                # the same page elsewhere
        xor     r8d, r8d
        mov     ebx, 100
use:    call    rbp                     # so often that the page becomes a shared one
        dec     ebx
        jnz     use
"""
END = """
        mov     eax, r8d
        out     0xf4, al
copy:   mov     ecx, 512                # the page at RSI to that at RDI
        rep     movsq
        ret
sum:    mov     ecx, 512                # of the page at RSI
1:      lodsq
        rol     r8, 7
        add     r8, rax
        dec     ecx
        jnz     1b
        ret
        .p2align 12
mixed:  pushfq
        pop     rax
        and     eax, 0x202
        add     r8, rax
        mov     ecx, 5
1:      inc     qword ptr [rip + count]
        add     r8, [rip + count]
        loop    1b
        pushfq
        pop     rdx
        ret
count:  .quad   0
        .p2align 12
"""
READ = """
        mov     rsi, r12                # a kernel that copies a process: FORK
        mov     edi, 0x60000
        call    copy
        mov     esi, 0x60000
        call    sum
        mov     rsi, r12
        call    sum
        mov     eax, 0x60000
        call    rax                     # and the copy runs
"""
# Instructions begin elsewhere than in what was there before, and the new code calls further code.
OTHER = """
other:  mov     eax, 0x9c909c9c
        xor     r8, rax
        mov     edx, 0x9df4f49d
        inc     dword ptr [rip + seen]
        call    inner
        add     r8, rdx
        ret
        .byte   0xb8
inner:  pushfq
        pop     rax
        imul    r8, rax, 3
        add     r8d, [rip + seen]
        ret
        .p2align 3
seen:   .long   7
        .p2align 12
"""
RECYCLED = """
        cli
        lea     rsi, [rip + other]
        mov     rdi, r12
        call    copy
        mov     ebx, 50
1:      call    rbp
        dec     ebx
        jnz     1b
        mov     rsi, r12
        call    sum
"""
# One page at two addresses: stores to the one are seen at the other by the next instruction.
COHERENT = """
        lea     rsi, [rip + twoway]
        mov     rdi, r12
        call    copy
        mov     ebx, 40
1:      call    rbp
        mov     [r12 + 0x800], rbx
        add     r8, [rbp + 0x800]
        mov     [rbp + 0x808], r8
        xor     r8, [r12 + 0x808]
        dec     ebx
        jnz     1b
"""
TWOWAY = """
twoway: mov     [rip + twoway + 0x810], rbx
        mov     rax, [r12 + 0x810]
        add     r8, rax
        mov     [r12 + 0x818], rax
        rol     r8, 5
        add     r8, [rip + twoway + 0x818]
        lea     rsi, [r12 + 0x800]      # over the border between data of one page at two addresses
        lea     rdi, [rbp + 0x820]
        mov     ecx, 4
        rep     movsq
        pushfq
        pop     rax
        and     eax, 0xff
        add     r8, rax
        ret
        .p2align 12
"""
SOURCES = {
    "read": BEGIN + READ + END,
    "recycled": BEGIN + RECYCLED + END + OTHER,
    "coherent": BEGIN + COHERENT + END + TWOWAY,
}


def ended(machine: Machine) -> dict[str, object]:
    """What a guest has come to."""
    return {
        "stop": machine.stop, "reason": machine.vmm.reason, "status": machine.vmm.exit_status,
        "registers": machine.cpu.state(), "memory": machine.memory_image().sha256(),
    }  # fmt: skip


@pytest.mark.parametrize("keys", [True, False], ids=["protection keys", "none"])
@pytest.mark.parametrize("slow", [False, True], ids=["callouts", "slow"])
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_only_the_twin_is_patched(
    source: str, slow: bool, keys: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mixed page read, replaced and stored to at another address: as on the interpreter."""
    if keys and not KEYS:
        pytest.skip("this CPU has no protection keys")
    monkeypatch.setattr(host_support, "has_protection_keys", lambda: keys)
    loaded = assemble_program(source.encode(), "mixed.s", 2 << 20)
    ends = {}
    for core in ("interpreter", "trap:native"):
        with closing(start(loaded, core, Options(ram=2 << 20, slow=slow))) as machine:
            machine.run_free(60.0)
            if core == "trap:native":
                patcher = machine.vmm.patched.patcher
                assert patcher is not None
                assert any(page.data_accesses for page in patcher.pages.values())
            ends[core] = ended(machine)
    assert ends["trap:native"] == ends["interpreter"]
