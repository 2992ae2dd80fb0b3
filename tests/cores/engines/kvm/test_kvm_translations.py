"""Stale translations of a stepped KVM guest, in the CPU's TLB and in the VMM's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cores.engines.registry import availability
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.pc.stop import Stop
from cores.programs.loader import assemble_program
from cores.programs.program import Program
from cores.runs.compare import compare

MOVED = """
    mov qword ptr [0x14000 + 256 * 8], 0x16003      # linear 0x20000000: a page table of its own
    mov qword ptr [0x16000], 0x17003
    mov dword ptr [0x17000], 0xc3c1ff               # inc ecx; ret
    mov rax, CODE
    mov [0x18000], rax
    mov eax, 0x42
    mov esi, 0x20000000
    call rsi
    mov qword ptr [0x16000], 0x18003                # moved, and the old translation may live on
    call rsi
    invlpg [rsi]
    mov eax, 0x43
    call rsi
    xor eax, eax
    out 0xf4, eax
"""

NEVER_STEPPED = {"out": "90c3e9e6", "cpuid": "c3a20f", "pushf": "c3589c", "rdtsc": "c3310f"}
"""Code (its bytes backwards) whose instruction the VMM completes, or has to hide something of."""

USER = """
    lidt [rip + idtr]
    lea rax, [rip + called]
    mov rbx, 0x20000 + 0x80 * 16
    mov [rbx], ax
    mov dword ptr [rbx + 2], 0xee000010
    shr rax, 16
    mov [rbx + 6], ax
    mov rax, [rbx]
    mov [0x20000 + 14 * 16], rax                    # a #PF handler: some hosts step by its gate
    mov qword ptr [0x11084], 0x90000
    or byte ptr [0x12000], 4
    or byte ptr [0x13000], 4
    or byte ptr [0x14000], 4
    mov qword ptr [0x14000 + 256 * 8], 0x16007
    mov qword ptr [0x16000], 0x17007
    mov qword ptr [0x17000], 0x1111
    mov qword ptr [0x18000], 0x2222
    or byte ptr [0x15000 + 256 * 8], 4              # the page of this code
    mov esi, 0x20000000
    push 0x2b
    push 0x80000
    push 2
    push 0x33
    lea rax, [rip + user]
    push rax
    iretq
user:
    mov rax, [rsi]
    int 0x80
    mov rbx, [rsi]
    int 0x80
called:
    mov qword ptr [0x16000], 0x18007
    FLUSH
    test rbx, 0x2000
    jnz done
    iretq
done:
    mov rdx, rax
    xor eax, eax
    out 0xf4, eax
idtr:
    .short 0xfff
    .quad 0x20000
"""

FLUSHES = {"invlpg": "invlpg [rsi]", "cr3": "mov rdi, cr3\n mov cr3, rdi"}


@pytest.fixture
def program() -> Callable[[str], Program]:
    """Assemble; skip where there is no KVM, or none that steps."""
    here = availability("kvm", detailed=True)
    if not here.available:
        pytest.skip(str(here.reason))
    abilities = {name: present for name, present, _ in here.abilities}
    if not abilities["single step in ring 0, through faults"]:
        pytest.skip("this host's KVM does not step")
    return lambda source: assemble_program(source.encode(), "guest.s")


@pytest.mark.parametrize("name", NEVER_STEPPED)
def test_code_moved_without_invlpg(program: Callable[[str], Program], name: str) -> None:
    """Until INVLPG the old or the new code runs, then the new, without an error; the VMM completes its
    instructions by either translation."""
    code = int(NEVER_STEPPED[name], 16)
    machine = start(program(MOVED.replace("CODE", f"{code:#x}")), "kvm", Options())
    seen = []
    try:
        while machine.stop is None:
            machine.step()
            if machine.cpu.rip >> 12 == 0x20000000 >> 12:
                seen.append(machine.cpu.gpr[:4])
        assert machine.stop is Stop.EXIT, machine.vmm.reason
        if name == "out":
            assert bytes(machine.board.console) in (b"C", b"BC")
        elif name == "cpuid":
            assert not any(gpr[0] & 0xFFFFFF for gpr in seen if gpr[0] not in (0x42, 0x43, 0))
        elif name == "pushf":
            assert not any(gpr[0] & 0x100 for gpr in seen)
    finally:
        machine.close()


@pytest.mark.parametrize("flush", FLUSHES)
def test_a_flush_that_the_vmm_completes_reaches_the_cpu(
    program: Callable[[str], Program], flush: str
) -> None:
    """INVLPG and MOV CR3 in ring 0, completed by the VMM in exact mode, flush the CPU's TLB for ring
    3."""
    options = Options(cores=("interpreter", "kvm"))
    report = compare(program(USER.replace("FLUSH", FLUSHES[flush])), options)
    assert report.divergence is None
    kvm = report.cores[1]
    assert (kvm.stop, kvm.reason) == (Stop.EXIT, None)
    assert (kvm.registers["rbx"], kvm.registers["rdx"]) == (0x2222, 0x1111)
