"""Leader and followers: few stops in place of many steps, with the same verdicts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
from machine_lab import DATA, EXIT, RAM, TRAPS, booted, needs_assembler, program, require

from cores.engines.base import Exit, Fault
from cores.engines.ptrace.engine import PtraceEngine
from cores.lockstep import leader as lead
from cores.lockstep.leader import Copies, Lead
from cores.lockstep.options import Options
from cores.lockstep.session import Session
from cores.machine.machine import Machine
from cores.machine.report import CoreReport, Divergence
from cores.pc.stop import Stop
from cores.x86.faults import GuestFault
from cores.x86.registers import RSI, Vector
from cores.x86.virtual_cpu import VirtualCpu
from tests.sampling import all_but

pytestmark = needs_assembler

TURNS = 10_000
LOOP = f"""
    mov rbx, {DATA}
    mov ecx, {TURNS}
1:  add rax, rcx
    mov [rbx + 64], rax
    dec ecx
    jnz 1b
"""
LOOPED = 2 + 4 * TURNS
FAR = 0x70000
NEAR = 0x40000


@pytest.fixture(params=["trap:native", "trap:portable", "kvm"])
def follower(request: pytest.FixtureRequest) -> str:
    """A core that runs here."""
    core: str = request.param
    require(core)
    return core


def unspoilt(machine: Machine) -> None:
    """Change nothing."""


def compared(
    source: str, follower: str, *, budget: int | None = None,
    spoil: Callable[[Machine], None] = unspoilt,
) -> tuple[Divergence | None, list[CoreReport]]:  # fmt: skip
    """Compare the interpreter and a follower, changed by ``spoil`` first, to the end."""
    options = Options(cores=("interpreter", follower), budget=budget, ram=RAM)
    with closing(Session(program(source), options)) as session:
        spoil(session.machines[-1])
        session.run_to_end()
        return session.divergence, [machine.report() for machine in session.machines]


def test_a_loop_is_led(follower: str, led: list[int]) -> None:
    """A long loop is one stretch but for its warm-up, and is counted exactly."""
    divergence, reports = compared(LOOP + "out 0xe9, al\n" + EXIT, follower)
    assert divergence is None
    assert [r.instructions for r in reports] == [LOOPED + 3] * 2
    assert max(led) > 0.9 * LOOPED
    assert reports[0].memory_sha256 == reports[1].memory_sha256


UNDEFINED_FLAGS = """
    mov ecx, 1500
1:  lea eax, [rcx + 15]
    add al, 1           # AF, for some
    imul ebx, eax, 0x1010101
    mov al, bl
    out 0xe9, al        # with flags that IMUL has left undefined
    .rept 100
    nop
    .endr
    dec ecx
    jnz 1b
"""


def test_undefined_flags_at_an_exit(led: list[int]) -> None:
    """Flags that each CPU leaves otherwise keep no stretch from being led: steps show once that they
    are undefined there."""
    require("trap:native")
    divergence, reports = compared(UNDEFINED_FLAGS + EXIT, "trap:native", budget=60_000)
    assert divergence is None
    assert sum(led) > 40_000
    assert reports[0].registers == reports[1].registers


def test_it_stops_at_the_budget(follower: str, led: list[int]) -> None:
    """At a breakpoint that is passed many times, all machines stop in the same turn of the loop."""
    divergence, reports = compared(LOOP + EXIT, follower, budget=3_003)
    assert divergence is None
    assert led
    assert [(r.stop, r.instructions) for r in reports] == [(Stop.BUDGET, 3_003)] * 2
    assert reports[0].registers == reports[1].registers


FIBONACCI = """
    mov edi, 20
fib:
    cmp edi, 2
    jb leaf
    push rdi
    dec edi
    call fib
    pop rdi
    push rax
    sub edi, 2
    call fib
    pop rcx
    add eax, ecx
    ret
leaf:
    mov eax, edi
    ret
"""
COUNT_IN_MEMORY = f"""
1:  inc dword ptr [{DATA}]
    cmp dword ptr [{DATA}], 0
    jne 1b
"""


@pytest.mark.parametrize("source", [FIBONACCI, COUNT_IN_MEMORY], ids=["recursion", "counter"])
def test_registers_alone_do_not_tell(source: str, follower: str, led: list[int]) -> None:
    """Machines that met too early, with equal registers and different memory, are led again."""
    divergence, reports = compared(source, follower, budget=12_002)
    assert divergence is None
    assert led
    assert [r.instructions for r in reports] == [12_002] * 2
    assert reports[0].registers == reports[1].registers
    assert reports[0].memory_sha256 == reports[1].memory_sha256


OWN_TABLES = """
    mov qword ptr [0x20000], 0x21003
    mov qword ptr [0x21000], 0x22003
    mov qword ptr [0x22000], 0x23003
    mov edi, 0x23000
    mov eax, 3
1:  mov [rdi], rax
    add eax, 0x1000
    add edi, 8
    cmp edi, 0x24000
    jne 1b
    mov eax, 0x20000
    mov cr3, rax
"""


def test_accessed_bits_do_not_tell(follower: str, led: list[int]) -> None:
    """Pages that differ in A and D bits alone do not become discriminating pages."""
    divergence, reports = compared(OWN_TABLES + COUNT_IN_MEMORY, follower, budget=12_002)
    assert divergence is None
    assert led[-1] > 7_000  # the last stretch has arrived: nothing was stepped in its place
    assert reports[0].memory_sha256 == reports[1].memory_sha256


@pytest.mark.parametrize(
    "follower", all_but(["trap:native", "kvm"], "kvm"), indirect=True
)  # these do not count
def test_a_page_misleads_once(follower: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A discriminating page that can never be equal costs one stretch only."""
    misled = []
    go = Lead._go

    def spoiling(self: Lead, limit: int) -> None:
        misled.append(NEAR in self._discriminating)
        self.machines[-1].memory.view[NEAR] = 1
        go(self, limit)

    monkeypatch.setattr(Lead, "_go", spoiling)
    divergence, _ = compared(COUNT_IN_MEMORY, follower, budget=6_002)
    assert divergence is None
    assert sum(misled) == 1


@pytest.mark.parametrize("follower", TRAPS, indirect=True)
def test_ring_3_is_led(follower: str, led: list[int]) -> None:
    """In ring 3 Unicorn does not look up the kernel's pages, which the guest cannot fetch from."""
    source = f"""
        or qword ptr [0x12000], 4
        or qword ptr [0x13000], 4
        or qword ptr [0x14000], 4
        or qword ptr [0x15808], 4
        mov rax, cr3
        mov cr3, rax
        lea rax, [rip + user]
        push 0x2b
        push {DATA}
        push 2
        push 0x33
        push rax
        iretq
        .balign 4096
    user:
        {LOOP.replace(f"{DATA}", "0x101800")}
        hlt
    """
    divergence, reports = compared(source, follower, budget=9_000)
    assert divergence is None
    assert led == [9_000 - lead.WARM_UP - lead.TAIL]
    assert reports[0].registers == reports[1].registers


def test_a_timer_is_on_time(follower: str, led: list[int]) -> None:
    """A timer interrupt comes before the same instruction as in stepped runs."""
    source = f"""
        lidt [rip + idtr]
        mov al, 0x11
        out 0x20, al
        mov al, 0x20
        out 0x21, al
        mov al, 4
        out 0x21, al
        mov al, 1
        out 0x21, al
        mov al, 0xfe
        out 0x21, al
        mov al, 0x34
        out 0x43, al
        mov al, 0x80
        out 0x40, al
        out 0x40, al
        lea rax, [rip + tick]
        lea rdi, [rip + idt + 0x200]
        mov [rdi], ax
        mov word ptr [rdi + 2], 0x10
        mov word ptr [rdi + 4], 0x8e00
        shr rax, 16
        mov [rdi + 6], ax
        sti
        {LOOP}
        {EXIT}
    tick:
        push rax
        mov al, 0x20
        out 0x20, al
        pop rax
        iretq
    idtr: .word 0x3ff
        .quad idt
        .balign 16
    idt: .space 1024
    """
    divergence, reports = compared(source, follower)
    assert divergence is None
    assert len(led) > 1
    assert reports[0].instructions == reports[1].instructions
    assert reports[0].stop is Stop.EXIT


def test_what_differs_at_an_exit_is_named(follower: str, led: list[int]) -> None:
    """A device that answers differently on one machine is found at the IN, after a long stretch."""

    def spoil(machine: Machine) -> None:
        machine.board.read = lambda port, size: 7  # type: ignore[method-assign]

    divergence, _ = compared(LOOP + "in al, 0x80\n" + EXIT, follower, spoil=spoil)
    assert led
    assert divergence is not None
    assert (divergence.instruction, divergence.asm) == (LOOPED, "in al, 0x80")
    assert divergence.differs == ("rax",)


def test_what_differs_in_a_stretch_is_named(follower: str, led: list[int]) -> None:
    """A byte of RAM that differs is found at the first load of it, by stepping."""

    def spoil(machine: Machine) -> None:
        machine.memory.view[DATA] = 1

    load = "mov edx, [rbx]\nmov rsi, rdx\n"
    divergence, _ = compared(LOOP + load + EXIT, follower, spoil=spoil)
    assert divergence is not None
    assert divergence.instruction == LOOPED
    assert divergence.asm == "mov edx, dword ptr [rbx]"


def test_what_nothing_reads_is_found_at_the_end(follower: str) -> None:
    """A byte that differs and is never read is found at the end, with its address."""

    def spoil(machine: Machine) -> None:
        machine.memory.view[FAR] = 1

    divergence, _ = compared(LOOP + EXIT, follower, spoil=spoil)
    assert divergence is not None
    assert divergence.asm is None
    assert divergence.differs == (f"mem:{FAR:#x}",)


def test_a_device_in_memory_is_stepped(follower: str) -> None:
    """Stores to the screen within a long run are counted, and the screens are equal."""
    source = LOOP + "mov byte ptr [0xb8000], 'S'\nmov ecx, 9000\n2: loop 2b\n" + EXIT
    divergence, reports = compared(source, follower)
    assert divergence is None
    assert reports[0].screen == reports[1].screen
    assert reports[0].device_accesses == reports[1].device_accesses == 2


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Instruction counts before each step that a session has made."""
    made: list[int] = []
    step = Session.step

    def noted(session: Session) -> None:
        made.append(session.machines[0].vmm.instructions)
        step(session)

    monkeypatch.setattr(Session, "step", noted)
    return made


def test_trouble_is_come_near_to(
    follower: str, stepped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before an instruction that has to be stepped, few steps are made."""
    monkeypatch.setattr(lead, "WAIT_NS", 500 * lead.WAIT_NS)  # no follower is late on a busy computer
    source = LOOP + "mov byte ptr [0xb8000], 'S'\n" + LOOP + EXIT
    divergence, reports = compared(source, follower)
    assert divergence is None
    assert reports[0].instructions == 2 * LOOPED + 3
    assert LOOPED in stepped
    before = [n for n in stepped if lead.WARM_UP <= n < LOOPED]
    assert len(before) < lead.FEW
    assert len(stepped) < lead.WARM_UP + lead.FEW + 2 * lead.AFTER_TROUBLE


def test_trouble_is_come_near_to_at_any_cost(
    follower: str, stepped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is so, too, where checkpoints take longer than the run between them."""
    keep = Copies.keep

    def costly(copies: Copies, *, led: bool, soon: bool, now: bool) -> bool:
        return keep(copies, led=led, soon=False, now=now)

    monkeypatch.setattr(Copies, "keep", costly)
    test_trouble_is_come_near_to(follower, stepped, monkeypatch)


def test_what_is_taken_back_is_not_counted(follower: str, led: list[int]) -> None:
    """Stretches that were rolled back are not reported."""
    options = Options(cores=("interpreter", follower), ram=RAM, budget=12_002)
    with closing(Session(program(FIBONACCI), options)) as session:
        session.run_to_end()
        assert session.divergence is None
        assert len(led) >= session.stretches > 0
        assert 0 < session.led <= 12_002 - lead.WARM_UP


@pytest.mark.parametrize("distance", all_but((300, 30_000), 30_000))
def test_a_step_names_what_differs_far_away(follower: str, distance: int, led: list[int]) -> None:
    """A register that differs in each attempt of a stretch is named by a step."""
    at = lead.WARM_UP + distance
    options = Options(cores=("interpreter", follower), ram=RAM)
    with closing(Session(program(LOOP + EXIT), options)) as session:
        machine = session.machines[-1]
        vmm, step, follow = machine.vmm, machine.step, Lead._follow

        def spoilt() -> None:
            step()
            if vmm.instructions == at:
                machine.cpu.gpr[RSI] = 7

        def spoiling(self: Lead, follower: Machine, leader: Machine, done: int) -> None:
            follow(self, follower, leader, done)
            if vmm.instructions - done < at <= vmm.instructions:
                machine.cpu.gpr[RSI] = 7

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(machine, "step", spoilt)
            patch.setattr(Lead, "_follow", spoiling)
            session.run_to_end()
        assert session.divergence is not None
        assert session.divergence.instruction == at - 1
        assert session.divergence.differs == ("rsi",)


def test_a_checkpoint_copies_what_was_touched(led: list[int]) -> None:
    """Machines with 1 GiB of RAM are led as those with little are."""
    require("trap:portable")
    options = Options(cores=("interpreter", "trap:portable"), ram=1 << 30, budget=400_000)
    with closing(Session(program(LOOP + EXIT, 1 << 30), options)) as session:
        session.run_to_end()
        assert session.divergence is None
    assert led


@pytest.mark.parametrize("core", TRAPS)
def test_pure_is_led_to_its_first_difference(core: str) -> None:
    """With --pure the trap core is led, too, to the sensitive instruction that it then executes
    itself."""
    require(core)
    options = Options(cores=("interpreter", core), ram=RAM, pure=True, budget=LOOPED + 100)
    with closing(Session(program(LOOP + "pushfq\npop rax\n" + EXIT), options)) as session:
        session.run_to_end()
        assert session.divergence is not None
        assert (session.divergence.instruction, session.divergence.asm) == (LOOPED, "pushfq")
        machine = session.machines[-1]
        assert machine.vmm.trace.by_reason["flags"] == 0
        assert machine.stop is Stop.EXIT


def test_devices_in_memory_are_met(follower: str) -> None:
    """A device in memory is accessed by steps, and what lies between two accesses is led."""
    turns, between = 100, 200
    source = f"""
        mov dword ptr [0x13018], 0x60003
        mov dword ptr [0x60fb8], 0xfee00083
        mov edi, 0xfee00000
        mov ebx, {turns}
    1:  add rax, [rdi + 0x30]
        mov ecx, {between}
    2:  dec ecx
        jnz 2b
        dec ebx
        jnz 1b
        {EXIT}"""
    options = Options(cores=("interpreter", follower), ram=RAM, budget=10**6)
    with closing(Session(program(source), options)) as session:
        session.run_to_end()
        assert session.divergence is None
        assert [machine.stop for machine in session.machines] == [Stop.EXIT] * 2
        assert {machine.board.accesses for machine in session.machines} == {turns + 1}
        assert session.led > 0.6 * turns * 2 * between


def test_a_trap_is_handled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trap core that its own trap has stopped at the rendezvous, at a device in memory or at a
    privileged instruction, is neither stopped there by a breakpoint nor entered again for the step."""
    require("trap:native")
    turns = 300
    source = f"""
        mov edi, 0xb8000
        mov ebx, {turns}
    1:  mov eax, [rdi]
        add eax, ebx
        .rept 80
        nop
        .endr
        cli
        mov [rdi], eax
        .rept 80
        nop
        .endr
        dec ebx
        jnz 1b
        {EXIT}"""
    stepped: list[str] = []
    step, reach = PtraceEngine.step, PtraceEngine.reach

    def stepping(engine: PtraceEngine, cpu: VirtualCpu) -> Exit:
        stepped.append("step")
        return step(engine, cpu)

    def reaching(engine: PtraceEngine, cpu: VirtualCpu, rip: int, gpr: list[int], passes: int) -> Exit:
        stepped.append("reach")
        return reach(engine, cpu, rip, gpr, passes)

    monkeypatch.setattr(PtraceEngine, "step", stepping)
    monkeypatch.setattr(PtraceEngine, "reach", reaching)
    divergence, reports = compared(source, "trap:native")
    assert divergence is None
    assert reports[1].exits_by_reason["mmio"] == 2 * turns
    assert reports[1].exits_by_reason["flags"] == turns
    assert len(stepped) < lead.WARM_UP + lead.AFTER_TROUBLE + turns
    assert reports[0].screen == reports[1].screen


def test_an_interrupt_comes_before_what_stopped() -> None:
    """The exit of an instruction that an interrupt precedes is not handled in place of the handler's
    first instruction."""
    require("trap:native")
    with booted("trap:native", "cli\n" + EXIT) as machine:
        vmm = machine.vmm
        vmm.stopped_by = Fault(Vector.GP)
        vmm.delivery.reflect(GuestFault(Vector.UD))
        assert vmm.stopped_by is None
        vmm.stopped_by = Fault(Vector.GP)
        vmm.restore(vmm.save())
        assert vmm.stopped_by is None


def test_what_a_device_in_memory_answers_is_compared(follower: str) -> None:
    """A device that answers the 40th load otherwise on one machine is found at that load."""
    turns, body = 60, 80
    source = f"""
        mov edi, 0xb8000
        mov ebx, {turns}
    1:  mov eax, [rdi]
        .rept {body}
        nop
        .endr
        dec ebx
        jnz 1b
        {EXIT}"""

    def spoil(machine: Machine) -> None:
        read, before = machine.memory.device_read, machine.board.accesses

        def reading(gpa: int, length: int) -> bytes:
            answer = read(gpa, length)
            wrong = machine.board.accesses == before + 40
            return bytes(byte ^ wrong for byte in answer)

        machine.memory.device_read = reading  # type: ignore[method-assign]

    divergence, _ = compared(source, follower, spoil=spoil)
    assert divergence is not None
    assert divergence.instruction == 2 + 39 * (body + 3)
    assert divergence.asm == "mov eax, dword ptr [rdi]"
    assert divergence.differs == ("rax",)
