"""The short way of known exits (cores/vmm/known_exits.py) against the long way, which defines it."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from agreement_lab import GUESTS, program
from test_guests import CASES, Case

from assets.disks.build import IMAGE
from cores.engines import registry
from cores.engines.base import Handlers
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.machine.machine import Machine
from cores.programs.assembler import keystone as assembler
from cores.programs.loader import assemble_program, load_program
from cores.programs.program import Program
from cores.vmm import stores_ahead
from cores.vmm.known_exits import KnownExits
from cores.vmm.patching.callout_code import ANSWERED
from cores.vmm.trace import UNCOUNTED, ExitEvent
from cores.x86.isa.instruction import Reason
from tests.sampling import sampled

ASSETS = Path(__file__).parents[2] / "assets"
CORES = ("trap:native", "kvm")
TIMED = {Reason.TSC}
VALUE = re.compile(r"0x[0-9a-f]+|\d+")
SECONDS = 120.0
ENDS = ("stop", "reason", "status")
UNTIMED = [name for name, guest in GUESTS.items() if "exact" not in guest.options]
"""Guests whose results do not depend on how fast they run."""
QUICK = [case for case in CASES.values() if case.guest != "primes.s"]

EXERCISE = """
        mov     rsp, 0x90000
        mov     r15d, 24
next:   imul    rax, r15, 0x2f1b3d5
        out     0xe9, al
        mov     edx, 0xe9
        out     dx, al
        out     dx, eax
        mov     edx, 0x5e0
        out     dx, ax
        in      al, dx
        in      ax, dx
        in      eax, dx
        in      al, 0x64
        in      al, 0x61
        cli
        pushfq
        pop     rbx
        sti
        pushfq
        xor     rbx, [rsp]
        lea     rax, [rip + next]
        and     eax, 0xad5
        xor     [rsp], rax
        test    r15d, 1
        jz      even
        and     qword ptr [rsp], 0xfffffffffffffdff
even:   popfq
        adc     rbx, rbx
        pushfq
        pop     r14
        .byte   0x66, 0x9c
        .byte   0x66, 0x9d
        sub     rsp, 3
        pushfq
        popfq
        add     rsp, 3
        mov     eax, r15d
        and     eax, 1
        cpuid
        add     r13, rbx
        mov     rcx, cr0
        mov     rsi, cr2
        mov     rdi, cr3
        mov     r8, cr4
        mov     r9, cr8
        mov     ecx, 0xc0000080
        rdmsr
        rdtsc
        xor     edx, edx
        mov     eax, 8
        lar     rcx, rax
        lsl     rdx, rax
        verr    ax
        verw    ax
        smsw    ax
        str     ax
        mov     bx, cs
        and     r15d, 0xff
        dec     r15d
        jnz     next
        xor     eax, eax
        out     0xf4, al
"""
"""Every instruction that has a handler, in several forms, with other flags and registers each time."""


IN_32_BITS = """
        lgdt    [rip + gdtr]
        push    0x08
        lea     rax, [rip + legacy]
        push    rax
        retfq
.code32
legacy: mov     ax, 0x10
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     ss, ax
        mov     esp, 0x90000
        mov     esi, 24
        mov     eax, cr0
        and     eax, 0x7fffffff
        mov     cr0, eax                # protected mode, without paging
next:   imul    eax, esi, 0x2f1b3d5
        out     0xe9, al
        mov     edx, 0xe9
        out     dx, eax
        mov     edx, 0x5e0
        in      eax, dx
        in      ax, dx
        in      al, 0x64
        cli
        pushfd
        pop     ebx
        sti
        pushfd
        test    esi, 1
        jz      even
        and     dword ptr [esp], 0xfffffdff
even:   popfd
        adc     ebx, ebx
        pushfw
        popfw
        sub     esp, 3
        pushfd
        popfd
        add     esp, 3
        mov     eax, esi
        and     eax, 1
        cpuid
        mov     ecx, cr0
        mov     edi, cr4
        mov     eax, cr3
        mov     cr3, eax
        mov     bx, cs
        push    ds
        pop     es
        push    fs
        mov     eax, esi
        and     eax, 1
        neg     eax
        and     eax, 0x10
        mov     gs, ax                  # null, and flat
        mov     ecx, gs
        add     ebx, ecx
        pop     fs
        dec     esi
        jnz     next
        mov     al, 0
        out     0xf4, al
.align 8
gdt:    .quad 0
        .quad 0x00cf9b000000ffff
        .quad 0x00cf93000000ffff
gdtr:   .word 0x17
        .quad gdt
"""
"""The same in 32-bit code."""


class Calls:
    """How often handlers were called, and how often they declined."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        learn = KnownExits.learn

        def counting(known: KnownExits, record: tuple[object, ...]) -> None:
            before: Handlers = dict(known._here)
            learn(known, record)  # type: ignore[arg-type]
            self.made += len(known._here) > len(before)

        monkeypatch.setattr(KnownExits, "learn", counting)


def told(event: ExitEvent) -> tuple[object, ...]:
    detail = VALUE.sub("#", event.detail) if event.reason in TIMED else event.detail
    return event.n, event.rip, event.code, event.reason, detail, event.handled, event.ring


def outcome(machine: Machine) -> dict[str, object]:
    """All that must not depend on the way. Hidden faults may: a page is mapped at another moment. An
    answered instruction (cores/vmm/callouts.py) is one exit less."""
    trace = machine.vmm.trace
    events = [
        event
        for event in trace.events
        if event.reason not in UNCOUNTED and not (machine.vmm.trap and event.code in ANSWERED)
    ]
    answered = trace.by_reason[Reason.CALLOUT]
    reasons = trace.by_reason + Counter({Reason.FLAGS: answered})
    return {
        "stop": machine.stop, "reason": machine.vmm.reason, "status": machine.vmm.exit_status,
        "registers": machine.cpu.state(), "memory": machine.memory_image().sha256(),
        "console": machine.console(), "screen": machine.board.screen(),
        "events": [told(event) for event in events], "exits": trace.exits + answered,
        "reasons": {r: n for r, n in reasons.items() if r not in UNCOUNTED and n},
        "accesses": machine.board.accesses, "instructions": machine.vmm.counted,
        "emulated": machine.vmm.emulated,
    }  # fmt: skip


def one_way(
    loaded: Program, core: str, options: Options, *, callouts: bool = True
) -> tuple[dict[str, object], bool]:
    """The outcome, and whether interrupts came."""
    interrupts = []
    with closing(start(loaded, core, options)) as machine:
        assert (machine.vmm.known is None) is options.slow
        if machine.vmm.callouts is not None:
            machine.vmm.callouts.wanted = callouts
        acknowledge = machine.board.acknowledge

        def counted() -> int:
            interrupts.append(machine.cpu.rip)
            return acknowledge()

        machine.board.acknowledge = counted  # type: ignore[method-assign]
        machine.run_free(SECONDS)
        return outcome(machine), bool(interrupts)


def equal(
    loaded: Program,
    core: str,
    options: Options,
    *,
    status: int | None = None,
    callouts: bool = True,
) -> None:
    """Hold both ways together; where interrupts came, at times of their own, only the end. status:
    with which the guest has to end, where that is said."""
    here = registry.availability(core)
    if not here.available:
        pytest.skip(f"{core}: {here.reason}")
    short, interrupted = one_way(loaded, core, options, callouts=callouts)
    long, interrupted_too = one_way(loaded, core, replace(options, slow=True))
    assert status is None or short["status"] == status
    if interrupted or interrupted_too:
        assert [short[n] for n in ENDS] == [long[n] for n in ENDS]
    else:
        assert short == long


@pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")
@pytest.mark.parametrize("core", CORES)
def test_every_handler(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers of every kind, called with ever other values, leave the log, devices and guest as the
    long way does."""
    calls = Calls(monkeypatch)
    loaded = assemble_program(EXERCISE.encode(), "exercise.s", 2 << 20)
    equal(loaded, core, Options(ram=2 << 20), callouts=False)
    assert calls.made >= (25 if core == "trap:native" else 5)


@pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")
def test_every_handler_in_32_bit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """So do those in 32-bit code."""
    calls = Calls(monkeypatch)
    loaded = assemble_program(IN_32_BITS.encode(), "exercise.s", 2 << 20)
    equal(loaded, "trap:native", Options(ram=2 << 20), status=0, callouts=False)
    assert calls.made >= 19


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.guest)
def test_shipped_guests(case: Case, core: str) -> None:
    """The guests of the course have the same exits, in the same words, both ways."""
    options = Options(disks=(str(IMAGE),) if case.disk else (), input=case.input)
    equal(load_program(str(ASSETS / "guests" / case.guest)), core, options)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("guest", sampled(UNTIMED, 12))
def test_mechanisms(guest: str, core: str) -> None:
    """So have the guests of one mechanism each."""
    if (guest, core) == ("absent_instructions", "kvm"):
        pytest.skip("KVM cannot take RDRAND from a guest: its numbers are never the same")
    equal(program(guest), core, GUESTS[guest].run_options)


DEVICES_IN_32_BITS = (
    IN_32_BITS[: IN_32_BITS.index("next:")]
    + """
        mov     edi, 0xfee00000         # the local APIC
        mov     ebx, 0xb8000            # the text screen
next:   mov     eax, [edi + 0x30]
        add     edx, eax
        mov     [ebx], eax
        mov     [ebx + 5], dl
        mov     dh, [ebx + 1]
        mov     cx, [ebx]
        mov     dword ptr [edi + 0x80], 0x20
        mov     word ptr [ebx + 8], 0x1e41
        add     ebx, 12
        dec     esi
        jnz     next
        mov     al, 0
        out     0xf4, al
"""
    + IN_32_BITS[IN_32_BITS.index(".align 8") :]
)
"""Loads from devices in memory, and stores to them."""


@pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")
def test_devices_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MOV from or to a device, by a handler or through a window, is the same access in the same
    words."""
    calls = Calls(monkeypatch)
    loaded = assemble_program(DEVICES_IN_32_BITS.encode(), "devices.s", 2 << 20)
    equal(loaded, "trap:native", Options(ram=2 << 20), status=0)
    assert calls.made >= 7


STORES_TO_NEW_PAGES = """
        mov     edi, 0x15000 + 8 * 0x100        # the PTEs of 0x100000 to 0x13ffff ...
        mov     ecx, 64
clean:  and     qword ptr [rdi], 0xffffffffffffff9f     # ... lose A and D
        add     edi, 8
        dec     ecx
        jnz     clean
        mov     rax, cr3
        mov     cr3, rax
        mov     edi, 0x110000
        mov     r8d, 32
next:   mov     ecx, 512
        mov     rax, rdi
        rep     stosq
        dec     r8d
        jnz     next
        mov     esi, 0x110000
        mov     r8d, 32
again:  xor     rbx, [rsi]
        add     rbx, [rsi + 4088]
        add     rsi, 4096
        dec     r8d
        jnz     again
        mov     eax, ebx
        out     0xf4, al
"""
"""Each page's first store needs a walk of the guest's tables, which sets its D bit."""


@pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")
@pytest.mark.parametrize("ahead", [False, True], ids=["one by one", "ahead"])
def test_hidden_faults(ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages filled at a known site are the same entries of the virtual TLB, counted and logged as by
    the long way, with the same A and D bits in the guest's tables. So they are where pages are mapped
    ahead of stores, with fewer faults."""
    if not ahead:
        monkeypatch.setattr(stores_ahead, "FEW", 1 << 30)
    here = registry.availability("trap:native")
    if not here.available:
        pytest.skip(f"trap:native: {here.reason}")
    loaded = assemble_program(STORES_TO_NEW_PAGES.encode(), "stores.s", 2 << 20)
    results = []
    for slow in (False, True):
        with closing(start(loaded, "trap:native", Options(ram=2 << 20, slow=slow))) as machine:
            machine.run_free(SECONDS)
            trace = machine.vmm.trace
            fills = [told(event) for event in trace.events if event.reason is Reason.SHADOW]
            results.append((outcome(machine), fills, trace.by_reason[Reason.SHADOW]))
    assert results[0][0] == results[1][0]
    assert ahead or results[0][1:] == results[1][1:]
    assert results[1][2] < 32 if ahead else results[1][2] >= 32


@pytest.mark.skipif(not assembler.installed(), reason="Keystone is not installed")
def test_handlers_outlive_a_load_of_cr3(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load of CR3 drops no handler in code that the new tables lead to as the old ones did."""
    here = registry.availability("trap:native")
    if not here.available:
        pytest.skip(f"trap:native: {here.reason}")
    calls = Calls(monkeypatch)
    loaded = assemble_program(IN_32_BITS.encode(), "exercise.s", 2 << 20)
    with closing(start(loaded, "trap:native", Options(ram=2 << 20))) as machine:
        machine.run_free(SECONDS)
        assert machine.vmm.exit_status == 0
    assert calls.made < 60  # 24 turns
