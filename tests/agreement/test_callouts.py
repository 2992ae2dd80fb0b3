"""Callouts (cores/vmm/callouts.py): CLI, STI, PUSHF and POPF answered without leaving the guest."""

from __future__ import annotations

from contextlib import closing

import pytest

from cores.engines import registry
from cores.engines.base import CALLOUT_CODE
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.pc.stop import Stop
from cores.programs.assembler import keystone as assembler
from cores.programs.loader import assemble_program
from cores.vmm.trace import Trace
from cores.x86.isa.instruction import Reason

SECONDS = 60.0
HERE = registry.availability("trap:native")
pytestmark = [
    pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed"),
    pytest.mark.skipif(not HERE.available, reason=f"trap:native: {HERE.reason}"),
]
FLAGS, CALLOUT = Reason.FLAGS, Reason.CALLOUT


def run(
    source: str, *, slow: bool = False, core: str = "trap:native"
) -> tuple[dict[str, object], Trace]:
    """The end of a free run, which must not depend on callouts, and the log."""
    options = Options(ram=2 << 20, slow=slow)
    loaded = assemble_program(source.encode(), "callouts.s", 2 << 20)
    with closing(start(loaded, core, options)) as machine:
        machine.run_free(SECONDS)
        registers = machine.cpu.state()
        end = {
            "stop": machine.stop, "reason": machine.vmm.reason, "status": machine.vmm.exit_status,
            "console": machine.console(), "registers": registers,
            "memory": machine.memory_image().sha256(),
        }  # fmt: skip
        return end, machine.vmm.trace.copy()


def both(source: str) -> Trace:
    """Run with callouts and without: the same end, and as many answers as exits less."""
    end, trace = run(source)
    slow_end, slow = run(source, slow=True)
    assert end == slow_end
    assert CALLOUT not in slow.by_reason
    assert trace.by_reason[FLAGS] + trace.by_reason[CALLOUT] == slow.by_reason[FLAGS]
    assert trace.exits + trace.by_reason[CALLOUT] == slow.exits
    return trace


MIXED = """
next:   imul    eax, esi, 0x2f1b3d5
        mov     ebp, eax
        and     eax, 0xad5              # status flags and DF
        push    {a}
        mov     dword ptr [{sp} - {word}], 0x5a5a5a5a
        popf{w}                         # IF = 0
        pushf{w}
        pop     {b}
        jc      carry                   # a branch under a jump
        cld
carry:  sti
        pushf{w}
        pushf{w}                        # one under another's jump
        add     {d}, [{sp}]
        popf{w}
        pop     {a}
        cli
        call    leaf                    # a call under a jump, which pushes the address behind it
        add     {d}, {a}
        add     {d}, {b}
        pushf{w}
        mov     {c}, [{pc} words]       # a load under a jump
        add     {d}, {c}
        pop     {c}
        xor     {d}, {c}
        mov     {a}, [{sp} - {word}]    # below the stack pointer lies what the CPU has left there
        mov     {a}, [{sp} - 2 * {word}]
        rol     {d}, 3
        lea     {a}, [{pc} even + 1]    # into the middle of a jump, where an instruction begins
        test    esi, 1
        jnz     odd
        push    {c}
        jmp     {a}
odd:    lea     {a}, [{pc} even]
        jmp     {a}
even:   pushf{w}
        pop     {c}
        nop
        nop
        nop
        cli
        dec     esi
        jnz     next
        mov     eax, edx
        out     0xf4, al

leaf:   mov     {a}, [{sp}]
        sti
        ret
        nop
        nop
        nop
        nop
        .p2align 12                     # a page of code and data would become a shared one
words:  .quad   0x1122334455667788
"""
IN_64_BITS = "mov rsp, 0x90000\nmov esi, 60\nxor edx, edx\n" + MIXED.format(
    a="rax", b="rbx", c="rcx", d="rdx", sp="rsp", pc="rip +", w="q", word=8
)
TO_32_BITS = """
        lgdt    [rip + gdtr]
        push    0x08
        lea     rax, [rip + legacy]
        push    rax
        retfq
        .p2align 3
gdt:    .quad   0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   .word   0x17
        .quad   gdt
.code32
legacy: mov     ax, 0x10
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     esp, 0x90000
"""
TWO_LEVELS = """
        mov     eax, cr0
        and     eax, 0x7fffffff
        mov     cr0, eax
        mov     ecx, 0xc0000080
        rdmsr
        and     eax, 0xfffffeff
        wrmsr
        mov     eax, 0x10               # PSE
        mov     cr4, eax
        mov     dword ptr [0x20000], 0x83       # 4 MiB from 0 on
        mov     eax, 0x20000
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        jmp     paged
paged:
"""
IN_32_BITS = "mov esi, 60\nxor edx, edx\n" + MIXED.format(
    a="eax", b="ebx", c="ecx", d="edx", sp="esp", pc="", w="d", word=4
)


@pytest.mark.parametrize(
    "source",
    [IN_64_BITS, TO_32_BITS + IN_32_BITS, TO_32_BITS + TWO_LEVELS + IN_32_BITS],
    ids=["long mode", "compatibility mode", "two levels"],
)
def test_the_same_with_and_without(source: str) -> None:
    """Flags, registers and memory, branches into the middle and copies of all kinds: as without
    callouts; nearly all of the instructions are answered."""
    trace = both(source)
    assert trace.by_reason[CALLOUT] > 6 * trace.by_reason[FLAGS]


STRANGE = """
        mov     rsp, 0x90000
        mov     esi, 40
next:   pushfq
        pop     rax
        add     r8, rax
        mov     rbx, rax
        test    esi, 3
        jnz     plain
        xor     rbx, 0x244200           # ID, AC, NT, IF
plain:  push    rbx
        popfq
        pushfq
        pop     rcx
        add     r9, rcx
        xor     rcx, rbx                # what was loaded, and is kept
        or      r10, rcx
        push    2
        popfq
        dec     esi
        jnz     next
        mov     eax, r10d
        out     0xf4, al
"""


def test_flags_that_are_not_answered() -> None:
    """A POPF of ID, AC or NT leaves the guest, and PUSHF shows what was loaded."""
    trace = both(STRANGE)
    assert trace.by_reason[CALLOUT] > trace.by_reason[FLAGS] > 20


INTERRUPTS = """
        mov     rsp, 0x90000
        lea     rax, [rip + tick]
        mov     edi, 0x30200            # vector 0x20
        mov     [rdi], ax
        mov     word ptr [rdi + 2], 0x10
        mov     word ptr [rdi + 4], 0x8e00
        shr     rax, 16
        mov     [rdi + 6], ax
        mov     qword ptr [rdi + 8], 0
        lidt    [rip + idtr]
        mov     al, 0x11                # PIC: vectors from 0x20 on, IRQ 0 alone
        out     0x20, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 4
        out     0x21, al
        mov     al, 1
        out     0x21, al
        mov     al, 0xfe
        out     0x21, al
        mov     r15d, 6                 # less than what a breath follows (breath.py)
next:   call    pending
        mov     r14, r12
        sti
        cli                             # under the shadow of STI nothing comes
        cmp     r14, r12
        jne     wrong
        sti
        nop                             # and behind the next instruction it comes
        nop
        cli
        inc     r14
        cmp     r14, r12
        jne     wrong
        call    pending
        push    0x202
        popfq
        nop
        cli
        inc     r14
        cmp     r14, r12
        jne     wrong
        dec     r15d
        jnz     next
        mov     al, 0
        out     0xf4, al
wrong:  mov     al, 1
        out     0xf4, al

pending:                                # with IF = 0 until the timer's interrupt waits
        mov     al, 0x30                # one-shot
        out     0x43, al
        mov     al, 100
        out     0x40, al
        mov     al, 0
        out     0x40, al
        mov     al, 0x0a                # IRR
        out     0x20, al
wait:   pushfq
        pop     rax
        test    ah, 2
        jnz     wrong
        in      al, 0x20
        test    al, 1
        jz      wait
        ret

tick:   push    rax
        inc     r12
        mov     al, 0x20
        out     0x20, al
        pop     rax
        iretq
idtr:   .word   0x20f
        .quad   0x30000
"""


def test_an_interrupt_that_waits() -> None:
    """A pending interrupt comes one instruction behind STI, at once behind POPF, and not between STI
    and CLI."""
    end, trace = run(INTERRUPTS)
    assert end["status"] == 0
    assert trace.by_reason[CALLOUT] >= 8
    assert trace.by_reason[Reason.IRQ] == 12


LOOP = """
        mov     esi, 50
{name}: pushfq
        pop     rax
        add     rdx, rax
        cli
        nop
        nop
        nop
        nop
        dec     esi
        jnz     {name}
"""
HUGE_PAGES = """
        mov     rsp, 0x90000
        mov     r8d, 0x13000            # the page-directory pointers
        mov     qword ptr [r8 + 8], 0x83        # 1 GiB each, all of them lead to RAM
        mov     qword ptr [r8 + 16], 0x83
        mov     qword ptr [r8 + 24], 0x83
"""
END = """
        mov     al, 7
        out     0xf4, al
"""


def test_where_the_guest_has_pages_everywhere() -> None:
    """Where the guest's own tables map each place that a jump could lead to, the instructions exit."""
    end, trace = run(HUGE_PAGES + LOOP.format(name="again") + END)
    assert end["status"] == 7
    assert CALLOUT not in trace.by_reason
    assert trace.by_reason[FLAGS] == 100


LATER = (
    "mov rsp, 0x90000\n"
    + LOOP.format(name="before")
    + """
        mov     r8d, 0x13000
        mov     qword ptr [r8 + 8], 0x83
        mov     qword ptr [r8 + 16], 0x83
        mov     qword ptr [r8 + 24], 0x83
        mov     rbx, 0x123456789abcdef
        mov     [0x90], rbx
        mov     ecx, 0x1800             # the pages of 0x6c000000 to 0x6d7fffff lead to RAM
        mov     edi, 0x6c001000
look:   mov     al, [rdi]
        add     r9, rax
        add     edi, 4096
        dec     ecx
        jnz     look
"""
    + LOOP.format(name="after")
    + END
).replace("mov     [0x90], rbx", "nop")


def test_where_the_guest_maps_the_place_later() -> None:
    """It does so without an invalidation: it reads its own pages there, and the instructions exit from
    then on."""
    end, trace = run(LATER)
    assert end["status"] == 7
    assert 80 < trace.by_reason[CALLOUT] < 100
    assert trace.by_reason[FLAGS] > 100


REWRITTEN = """
        mov     rsp, 0x90000
        lea     rdi, [rip + place]
        mov     ebp, 6
again:  mov     esi, 20
next:   xor     eax, eax
        cmp     eax, 1
place:  pushfq
        pop     rax
        nop
        nop
        nop
        add     rdx, rax
        dec     esi
        jnz     next
        xor     byte ptr [rdi + 3], 0x90 ^ 0xf9         # under the jump: NOP, STC
        dec     ebp
        jnz     again
        mov     eax, edx
        out     0xf4, al
"""


def test_code_under_a_jump_that_changes() -> None:
    """A store to an instruction under a jump is seen."""
    end, trace = run(REWRITTEN)
    assert end == run(REWRITTEN, slow=True)[0]
    assert trace.by_reason[CALLOUT] > 60


def test_never_in_exact_mode() -> None:
    """Exact mode has an exit for each."""
    loaded = assemble_program(
        ("mov rsp, 0x90000\n" + LOOP.format(name="a") + END).encode(), "a.s", 2 << 20
    )
    with closing(start(loaded, "trap:native", Options(ram=2 << 20))) as machine:
        while machine.stop is None:
            machine.step()
        assert CALLOUT not in machine.vmm.trace.by_reason
        assert machine.vmm.trace.by_reason[FLAGS] == 100


ROUTINES = (5 + 0x6CF4F4F4 & -4096) + CALLOUT_CODE + 4096
"""Where the routines of code in the first 4 MiB are, in long mode."""
MEDDLED = f"""
        mov     rsp, 0x90000
        mov     ebp, 2
outer:  {LOOP.format(name="again")}
        mov     edi, {{start:#x}}
        mov     ecx, 0x100
        mov     al, {{byte:#x}}
        rep     stosb
        dec     ebp
        jnz     outer
        {END}
"""


@pytest.mark.parametrize(
    ("place", "byte", "stop"), [(0x10000, 0xFF, Stop.EXIT), (0, 0xF4, Stop.SHUTDOWN)]
)
def test_a_guest_that_writes_over_the_routines(place: int, byte: int, stop: Stop) -> None:
    """With their data it changes no more than its virtual flags and the count; with their code it
    harms itself."""
    end, trace = run(MEDDLED.format(start=ROUTINES + place, byte=byte))
    assert end["stop"] is stop
    assert trace.by_reason[CALLOUT] < 1 << 34
