"""Exact stepping on KVM: one instruction, or a fault without effects, in both rings."""

from __future__ import annotations

import threading
from struct import pack

import pytest
from kvm_lab import ENTRY, RAM, Guest, MakeGuest

from cores.engines.base import Fault, Intercept, Interrupted, MmioRead, MmioWrite, Stepped
from cores.engines.kvm.api import Vcpu
from cores.engines.kvm.stepping import BY_REASON, INTERCEPTS
from cores.pc.platform import PML4
from cores.x86.isa.decoder import decode
from cores.x86.isa.instruction import Sensitivity
from cores.x86.isa.sensitive import TABLE, Entry
from cores.x86.registers import CS, RBP, RBX, RCX, RDI, RSI, RSP, SS, Flag, Vector
from cores.x86.virtual_cpu import Segment

IDT, HANDLERS, KERNEL_STACK = 0x20000, 0x40000, 0x90000


def install(g: Guest, spacing: int = 16, ist: int = 0) -> None:
    """Twenty handlers of NOPs, ``spacing`` bytes apart; 0: one for all."""
    for vector in range(20):
        entry = HANDLERS + vector * spacing
        g.memory.write(
            IDT + vector * 16, pack("<HHBBHQ", entry & 0xFFFF, 0x10, ist, 0x8E, entry >> 16, 0)
        )
    g.memory.write(HANDLERS, b"\x90" * 0x400)
    g.memory.write(0x11080 + 4, pack("<Q", KERNEL_STACK))
    g.memory.write(0x11080 + 36, pack("<Q", KERNEL_STACK - 0x1000))
    g.cpu.idtr.base, g.cpu.idtr.limit = IDT, 0x13F


def to_ring_3(g: Guest) -> None:
    """Enter the same program in ring 3, on pages open to it; the handlers' pages and the IDT's are
    not."""
    for table in (PML4, PML4 + 0x1000, PML4 + 0x2000):
        g.memory.view[table] |= 4
    for page in range(512):
        if page not in (IDT >> 12, HANDLERS >> 12, KERNEL_STACK - 1 >> 12):
            g.memory.view[PML4 + 0x3000 + page * 8] |= 4
    g.cpu.segments[CS] = Segment(0x33, 0, 0xFFFFFFFF, 0xA0FB)
    g.cpu.segments[SS] = Segment(0x2B, 0, 0xFFFFFFFF, 0xC0F3)


@pytest.fixture(params=[0, 3], ids=["ring 0", "ring 3"])
def stepping(request: pytest.FixtureRequest, guest: MakeGuest) -> MakeGuest:
    """Makes guests with handlers, in either ring; skips where the engine cannot step exactly."""

    def make(source: str) -> Guest:
        g = guest(source)
        if g.engine.exact_reason:
            pytest.skip(g.engine.exact_reason)
        install(g)
        if request.param:
            to_ring_3(g)
        return g

    return make


def test_each_step_is_one_instruction(stepping: MakeGuest) -> None:
    """Straight code, a call, a return and a jump to itself take one step each."""
    g = stepping("mov eax, 3; push rax; pop rbx; call next; spin: jmp spin; next: ret")
    seen = []
    for _ in range(7):
        assert g.step() == Stepped()
        seen.append(g.cpu.rip - ENTRY)
    assert seen == [5, 6, 7, 14, 12, 12, 12]
    assert g.cpu.gpr[RBX] == 3
    assert not g.cpu.rflags & Flag.TF


FAULTS = {
    "null": ("mov [rdi], eax", Vector.PF, 2, 0x33),
    "far": ("mov al, [0x40000000]", Vector.PF, 0, 0x40000000),
    "non-canonical": ("mov rax, [rbx]", Vector.GP, 0, None),
    "stack": ("mov rax, [rbp]", Vector.SS, 0, None),
    "divide": ("div ecx", Vector.DE, None, None),
    "undefined": ("ud2", Vector.UD, None, None),
    "push": ("push rax", Vector.PF, 2, 0x2B),
}


@pytest.mark.parametrize("shared", [False, True], ids=["handlers", "one handler"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_taken_back(stepping: MakeGuest, name: str, shared: bool) -> None:
    """Vector, error code and address are right, and CR2 alone has changed."""
    source, vector, error, address = FAULTS[name]
    g = stepping(source)
    stack = 1 if name == "push" else 0  # delivery needs one that exists
    install(g, spacing=0 if shared else 16, ist=stack)
    cpu = g.cpu
    cpu.gpr[RDI], cpu.gpr[RBX], cpu.gpr[5] = 0x33, 1 << 63, 1 << 62
    if name == "push":
        cpu.gpr[RSP] = 0x33
    before = cpu.state()
    if error is not None and vector == Vector.PF and cpu.cpl == 3:
        error |= 4
    fault = g.step()
    assert isinstance(fault, Fault)
    assert (fault.vector, fault.error, fault.address) == (vector, error, address)
    cpu.cr2 = 0
    assert cpu.state() == before


def test_handlers_may_move_between_two_steps(stepping: MakeGuest) -> None:
    """An instruction that was stepped before is found at the handler that its fault has now; one that
    has none any more is another fault."""
    g = stepping("again: mov [rdi], eax; jmp again")
    cpu = g.cpu

    def fault() -> Fault:
        cpu.rip, cpu.gpr[RDI] = ENTRY, 0x33
        found = g.step()
        assert isinstance(found, Fault)
        return found

    cpu.gpr[RDI] = 0x30000
    assert g.step() == Stepped()
    assert fault().vector == Vector.PF
    install(g, spacing=32)
    assert (fault().vector, fault().address) == (Vector.PF, 0x33)
    g.memory.write(IDT + Vector.PF * 16, bytes(16))
    # A CPU makes #DF of it (SDM vol. 3, table 6-5); an emulated one does not where KVM injects #PF.
    assert fault().vector in (Vector.DF, Vector.GP, Vector.NP)
    install(g)
    cpu.rip, cpu.gpr[RDI] = ENTRY, 0x30000
    assert g.step() == Stepped()


def test_breakpoints_stay_from_step_to_step(guest: MakeGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instructions with and without a stack operand have the same breakpoints, set once."""
    g = guest("again: mov eax, [rdi]; mov eax, [rsp]; push rax; pop rax; inc eax; jmp again")
    if g.engine.exact_reason:
        pytest.skip(g.engine.exact_reason)
    install(g)
    g.cpu.gpr[RDI] = 0x30000
    set_anew = []
    guest_debug = Vcpu.guest_debug

    def noted(vcpu: Vcpu, control: int, addresses: tuple[int, ...] = ()) -> None:
        set_anew.append(addresses)
        guest_debug(vcpu, control, addresses)

    monkeypatch.setattr(Vcpu, "guest_debug", noted)
    for _ in range(18):
        assert g.step() == Stepped()
    vectors = Vector.UD, Vector.SS, Vector.GP, Vector.PF
    assert set_anew == [tuple(HANDLERS + vector * 16 for vector in vectors)]


def test_a_jump_to_a_handler_is_a_step(guest: MakeGuest) -> None:
    """A guest that goes to a handler by itself has raised no exception."""
    g = guest("jmp rax")
    if g.engine.exact_reason:
        pytest.skip(g.engine.exact_reason)
    install(g)
    for vector in range(20):
        g.cpu.rip, g.cpu.gpr[0] = ENTRY, HANDLERS + vector * 16
        for done in range(3):
            assert g.step() == Stepped()
            assert g.cpu.rip == HANDLERS + vector * 16 + done


def test_a_rep_is_one_step(stepping: MakeGuest) -> None:
    """One step executes all iterations of a REP, and only these."""
    g = stepping("rep stosb; nop")
    g.cpu.gpr[RDI], g.cpu.gpr[RCX], g.cpu.gpr[0] = 0x30000, 300, 0x5A
    assert g.step() == Stepped()
    assert (g.cpu.rip, g.cpu.gpr[RCX], g.cpu.gpr[RDI]) == (ENTRY + 2, 0, 0x30000 + 300)
    assert g.memory.read(0x30000, 301) == b"\x5a" * 300 + b"\0"


def test_a_rep_that_faults_has_come_some_way(stepping: MakeGuest) -> None:
    """A REP that faults keeps its finished iterations, as on the CPU."""
    g = stepping("rep stosb; nop")
    g.cpu.gpr[RDI], g.cpu.gpr[RCX] = (2 << 20) - 10, 100
    fault = g.step()
    assert isinstance(fault, Fault)
    assert (fault.vector, fault.address) == (Vector.PF, 2 << 20)
    assert (g.cpu.rip, g.cpu.gpr[RCX], g.cpu.gpr[RDI]) == (ENTRY, 90, 2 << 20)


def test_a_comparison_that_faults_keeps_the_flags(stepping: MakeGuest) -> None:
    """REPNE SCAS that faults in the middle leaves the flags as they were (SDM vol. 2, REP)."""
    g = stepping("repne scasb; nop")
    g.cpu.gpr[0], g.cpu.gpr[RDI], g.cpu.gpr[RCX] = 1, (2 << 20) - 10, 100
    g.cpu.rflags |= Flag.ZF | Flag.PF
    fault = g.step()
    assert isinstance(fault, Fault)
    assert (fault.vector, g.cpu.gpr[RCX]) == (Vector.PF, 90)
    assert g.cpu.rflags & (Flag.ZF | Flag.PF | Flag.CF | Flag.SF) == Flag.ZF | Flag.PF


def test_a_step_onto_a_device_asks_it_first(stepping: MakeGuest) -> None:
    """A load or store outside RAM exits to the device, then completes alone."""
    g = stepping("mov ebx, [rdi]; mov [rdi+4], ebx; nop; nop")
    g.cpu.gpr[RDI] = 0xB8000
    assert g.step() == MmioRead(0xB8000, 4)
    assert g.cpu.rip == ENTRY
    g.engine.complete(b"abcd")
    assert g.step() == Stepped()
    assert (g.cpu.rip, g.cpu.gpr[RBX]) == (ENTRY + 2, 0x64636261)
    assert g.step() == MmioWrite(0xB8004, b"abcd")
    assert g.step() == Stepped()
    assert g.cpu.rip == ENTRY + 5


def test_a_rep_onto_a_device(stepping: MakeGuest) -> None:
    """Each iteration of a REP accesses the device, then the one step is complete."""
    g = stepping("rep stosw; nop")
    g.cpu.gpr[RDI], g.cpu.gpr[RCX], g.cpu.gpr[0] = 0xB8000, 3, 0x741
    for cell in range(3):
        assert g.step() == MmioWrite(0xB8000 + 2 * cell, b"\x41\x07")
    assert g.step() == Stepped()
    assert (g.cpu.rip, g.cpu.gpr[RCX]) == (ENTRY + 3, 0)


def test_what_the_vmm_completes_is_not_stepped(stepping: MakeGuest) -> None:
    """Instructions whose result a host may choose, or that would show the stepping, exit unexecuted."""
    for source in (
        "cpuid",
        "rdtsc",
        "in al, 0x60",
        "pushfq",
        "popfq",
        "int 0x80",
        "syscall",
        "mov ss, eax",
    ):
        g = stepping(source)
        before = g.cpu.state()
        assert g.step() == Intercept()
        assert g.cpu.state() == before


@pytest.mark.parametrize("code", ["0f0dc1", "f20f0dd5", "f6cb03"])
def test_an_encoding_that_a_cpu_may_lack(stepping: MakeGuest, code: str) -> None:
    """0F 0D with a register is #UD on AMD's CPUs and never stepped; QEMU's CPU lacks F6 /1 (TEST), of
    which the #UD is reported before its handler has run."""
    g = stepping("nop; nop; nop; nop")
    g.memory.write(ENTRY, bytes.fromhex(code))
    before = g.cpu.state()
    exit = g.step()
    assert exit in ((Stepped(), Fault(Vector.UD)) if code == "f6cb03" else (Intercept(lacking=True),))
    if exit == Stepped():
        assert g.cpu.rip == ENTRY + len(code) // 2
    else:
        assert g.cpu.state() == before


@pytest.mark.parametrize("code", ["0faee8", "0faef0", "0faef8", "f30f1efa", "0f1fc0", "660f1f4000"])
def test_fences_and_long_nops_are_one_step(stepping: MakeGuest, code: str) -> None:
    """Or are left to the VMM: a kernel that interprets them goes on to the next instruction."""
    g = stepping("nop; nop")
    g.memory.write(ENTRY, bytes.fromhex(code) + b"\x90\x90")
    exit = g.step()
    assert isinstance(exit, Stepped | Intercept)
    assert g.cpu.rip == ENTRY + (len(code) // 2 if exit == Stepped() else 0)


def test_sixteen_bit_enter_keeps_the_upper_half_of_rbp(stepping: MakeGuest) -> None:
    """It writes BP alone (SDM vol. 2, ENTER), or is left to the VMM."""
    g = stepping(".byte 0x66, 0xc8, 16, 0, 0")
    g.cpu.gpr[RBP], g.cpu.gpr[RSP] = 0x12345678, 0x38000
    exit = g.step()
    assert isinstance(exit, Stepped | Intercept)
    if exit == Stepped():
        assert (g.cpu.gpr[RBP], g.cpu.gpr[RSP]) == (0x12347FFE, 0x37FFE - 16)


def test_an_interrupted_rep_shows_no_rf(stepping: MakeGuest) -> None:
    """A kernel that interprets REP sets RF between its iterations; the guest's RFLAGS do not change."""
    g = stepping("rep stosb; nop")
    g.cpu.gpr[RDI], g.cpu.gpr[RCX] = 0x30000, 0xC0000
    done = threading.Event()

    def kick() -> None:
        while not done.is_set():
            g.engine.interrupt()

    kicker = threading.Thread(target=kick)
    kicker.start()
    try:
        while isinstance(g.step(), Interrupted) and g.cpu.gpr[RCX]:
            assert not g.cpu.rflags & Flag.RF
            if g.cpu.gpr[RCX] < 0xC0000:
                break
    finally:
        done.set()
        kicker.join()


def test_ring_3_is_refused_by_the_cpu(guest: MakeGuest) -> None:
    """CLI in ring 3 is the CPU's own #GP."""
    g = guest("cli")
    if g.engine.exact_reason:
        pytest.skip(g.engine.exact_reason)
    install(g)
    to_ring_3(g)
    assert g.step() == Fault(Vector.GP, 0, None)


def test_a_step_leaves_no_trace_in_memory(stepping: MakeGuest) -> None:
    """A step changes neither the IDT nor the kernel's stack."""
    g = stepping("add eax, ebx; nop")
    before = g.memory.read(IDT, 0x200), g.memory.read(KERNEL_STACK - 0x200, 0x200)
    assert g.step() == Stepped()
    assert (g.memory.read(IDT, 0x200), g.memory.read(KERNEL_STACK - 0x200, 0x200)) == before


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "push"])
def test_without_an_idt_the_fault_itself_is_told(guest: MakeGuest, name: str) -> None:
    """A triple fault is reported by its cause with the state before it, on CPUs that keep the registers
    (VT-x) and on those that reset them (AMD-V)."""
    source, vector, error, address = FAULTS[name]
    g = guest(source)
    if g.engine.exact_reason:
        pytest.skip(g.engine.exact_reason)
    cpu = g.cpu
    cpu.gpr[RDI], cpu.gpr[RBX], cpu.gpr[5] = 0x33, 1 << 63, 1 << 62
    before = cpu.state()
    assert g.step() == Fault(vector, error, address)
    assert cpu.state() == before


def test_a_stack_that_cannot_take_the_frame(guest: MakeGuest) -> None:
    """A push to a missing page, whose handler uses the same stack, is #PF, #DF and shutdown."""
    g = guest("push rax")
    if g.engine.exact_reason:
        pytest.skip(g.engine.exact_reason)
    install(g)
    g.cpu.gpr[RSP] = 0x5008
    assert g.step() == Fault(Vector.PF, 2, 0x5000)
    assert (g.cpu.gpr[RSP], g.cpu.rip) == (0x5008, ENTRY)


def test_a_rep_has_come_some_way_before_the_end(guest: MakeGuest) -> None:
    """At a triple fault in a REP the registers count the finished iterations."""
    g = guest("rep movsb")
    if g.engine.exact_reason:
        pytest.skip(g.engine.exact_reason)
    g.memory.write(0x30000, b"abcdefgh")
    g.cpu.gpr[RCX], g.cpu.gpr[RSI], g.cpu.gpr[RDI] = 100, 0x30000, RAM - 8
    assert g.step() == Fault(Vector.PF, 2, RAM)
    assert (g.cpu.gpr[RCX], g.cpu.gpr[RSI], g.cpu.gpr[RDI]) == (92, 0x30008, RAM)
    assert g.memory.read(RAM - 8, 8) == b"abcdefgh"
    down = guest("rep stosb")
    down.cpu.rflags |= Flag.DF
    down.cpu.gpr[RCX], down.cpu.gpr[RDI] = 100, 0x10003
    assert down.step() == Fault(Vector.PF, 2, 0xFFFF)
    assert (down.cpu.gpr[RCX], down.cpu.gpr[RDI]) == (96, 0xFFFF)


def test_a_window_asked_for_before_does_not_end_steps(guest: MakeGuest) -> None:
    """An interrupt window requested in free mode does not end a step."""
    g = guest("nop; nop; nop")
    if g.engine.exact_reason:
        pytest.skip(g.engine.exact_reason)
    assert not g.engine.inject(g.cpu, lambda: 0x20)
    g.cpu.rflags |= Flag.IF
    assert [g.step() for _ in range(3)] == [Stepped()] * 3


def test_an_instruction_that_is_never_stepped_is_taken_back(guest: MakeGuest) -> None:
    """Where the CPU's stale translation leads to OUT in place of NOP, the step has no effect; after the
    page tables are read again, the VMM completes the OUT."""
    g = guest("jmp rsi")
    if g.engine.exact_reason:
        pytest.skip(g.engine.exact_reason)
    entry = PML4 + 0x3000 + 0x30 * 8
    g.memory.write(0x30000, b"\x90" * 16)
    g.memory.write(0x31000, b"\xe6\xe9" * 8)
    g.cpu.gpr[RSI] = 0x30000
    assert [g.step(), g.step()] == [Stepped()] * 2
    g.memory.write(entry, pack("<Q", 0x31003))
    g.cpu.rip = 0x30000
    before = g.cpu.state()
    assert g.step() in (Interrupted(), Stepped())  # Stepped: the CPU has not looked either
    if g.cpu.rip == 0x30000:
        assert g.cpu.state() == before
        g.engine.flush()
        assert g.step() == Intercept()


def test_steps_and_runs_alternate(guest: MakeGuest) -> None:
    """Steps and free runs can alternate."""
    g = guest("inc eax; inc eax; hlt; inc eax; inc eax; hlt")
    if g.engine.exact_reason:
        pytest.skip(g.engine.exact_reason)
    for _ in range(2):
        assert g.step() == Stepped()
        g.run()
    assert g.cpu.gpr[0] == 4


def test_a_state_restored_over_a_half_done_step_counts(stepping: MakeGuest) -> None:
    """A checkpoint can be restored while a step waits for a device."""
    g = stepping("nop; mov ebx, [rdi]; nop")
    g.cpu.gpr[RDI] = 0xB8000
    before = g.cpu.copy()
    assert g.step() == Stepped()
    assert g.step() == MmioRead(0xB8000, 4)
    g.cpu.assign(before)
    g.engine.memory_changed()
    assert g.step() == Stepped()
    assert g.cpu.rip == ENTRY + 1
    assert g.step() == MmioRead(0xB8000, 4)


THE_PLATFORMS = [e for e in TABLE if e.forms and e.sample and e.sensitivity is not Sensitivity.ABSENT]


@pytest.mark.parametrize("entry", THE_PLATFORMS, ids=lambda e: e.name)
def test_explain_knows_what_is_stepped(entry: Entry) -> None:
    """The text of `explain` for KVM in exact mode agrees with what VMM and engine do."""
    insn = decode(entry.sample)
    moves = insn.mnemonic == "mov" and insn.sensitivity is Sensitivity.PRIVILEGED
    taken = moves or insn.mnemonic in INTERCEPTS or insn.reason in BY_REASON
    assert entry.cores["kvm, exact"].startswith("Stepped") != taken
