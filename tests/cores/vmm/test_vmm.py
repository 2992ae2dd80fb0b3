"""The VMM's loop: counts, ends, and the record of each exit."""

from __future__ import annotations

from time import perf_counter_ns

import pytest
from machine_lab import CORES, DATA, EXIT, TRAPS, booted, needs_assembler, run

from cores.pc.stop import Stop
from cores.x86.isa.instruction import Reason

pytestmark = needs_assembler

WITH_IDT = """
_start:
    lidt [rip + idtr]
    {body}
    mov al, 0
    out 0xf4, al
handler:
    add qword ptr [rsp], 2
    iretq
stuck:
    iretq
idtr: .short 0x7f
    .quad idt
.align 8
idt:
    .rept 8
    .short {handler} - _start, 0x10
    .short 0x8e00, 0x10
    .quad 0
    .endr
"""


@pytest.mark.parametrize("core", CORES)
def test_what_faults_does_not_count(core: str) -> None:
    """LIDT, IRETQ and the end count, UD2 and its delivery do not."""
    with booted(core, WITH_IDT.format(body="ud2", handler="handler")) as machine:
        run(machine)
        assert machine.stop is Stop.EXIT
        assert (machine.vmm.instructions, machine.vmm.deliveries) == (5, 1)


@pytest.mark.parametrize("core", CORES)
def test_deliveries_count_against_the_budget(core: str) -> None:
    """A guest that faults for ever is stopped by its budget."""
    with booted(core, WITH_IDT.format(body="ud2", handler="stuck")) as machine:
        machine.vmm.budget = 51
        run(machine)
        assert machine.stop is Stop.BUDGET
        assert machine.vmm.instructions + machine.vmm.deliveries == 51


@pytest.mark.parametrize("core", CORES)
def test_rep_counts_once(core: str) -> None:
    """A hundred iterations are one instruction, and one tick."""
    with booted(core, f"mov edi, {DATA}\nmov ecx, 100\nrep stosb\n") as machine:
        run(machine, 3)
        assert (machine.vmm.instructions, machine.vmm.ticks) == (3, 3)
        assert machine.cpu.gpr[1] == 0


@pytest.mark.parametrize("core", CORES)
def test_hlt_jumps_to_the_next_event(core: str) -> None:
    """HLT advances virtual time to the timer, whose interrupt comes first."""
    timer = "mov al, 0x34\nout 0x43, al\nmov al, 0\nout 0x40, al\nmov al, 0x10\nout 0x40, al\n"
    pic = "".join(
        f"mov al, {value}\nout {port:#x}, al\n"
        for port, value in ((0x20, 0x11), (0x21, 0), (0x21, 4), (0x21, 1), (0x21, 0xFE))
    )
    source = WITH_IDT.format(body=f"{pic}{timer}sti\nhlt\nud2", handler="handler")
    with booted(core, source) as machine:
        machine.vmm.budget = 60
        while machine.stop is None and machine.vmm.last_rip != machine.program.symbols["handler"]:
            machine.step()
        assert 3_400 < machine.vmm.ticks < 3_500  # 4096 periods of 1/1193182 s
        assert machine.vmm.deliveries == 1


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("source", "stop"), [
    ("cli\nhlt\n", Stop.HALTED),
    ("sti\nhlt\n", Stop.HALTED),
    ("mov edx, 0x604\nmov eax, 0x2000\nout dx, ax\n", Stop.POWEROFF),
    ("ud2\n", Stop.SHUTDOWN),
])  # fmt: skip
def test_ends(core: str, source: str, stop: Stop) -> None:
    """Each way to end is reported as its own."""
    with booted(core, source) as machine:
        assert run(machine).stop is stop


@pytest.mark.parametrize("core", CORES)
def test_shutdown_in_words(core: str) -> None:
    """The reason of a shutdown after a return to address 0 names that return."""
    with booted(core, "ret\n") as machine:
        run(machine)
        assert machine.stop is Stop.SHUTDOWN
        if core != "kvm":  # KVM delivers by itself, and knows only that it could not
            assert "address 0x0" in machine.vmm.reason
            assert "no IDT" in machine.vmm.reason


@pytest.mark.parametrize("core", TRAPS)
def test_exits_are_written_down(core: str) -> None:
    """Each exit is recorded with its place, bytes, reason, words, and the guest's ring."""
    with booted(core, "mov al, 72\nout 0xe9, al\npushfq\n" + EXIT) as machine:
        run(machine)
        first, second, third = machine.vmm.trace.events
        assert (first.n, first.rip, first.code, first.reason, first.ring) == (
            1, 0x100002, b"\xe6\xe9", Reason.IO, 0,
        )  # fmt: skip
        assert "console" in first.detail
        assert (second.n, second.reason) == (2, Reason.FLAGS)
        assert third.reason is Reason.IO
        assert all(event.ns > 0 for event in machine.vmm.trace.events)


def test_the_interpreter_never_exits() -> None:
    """The interpreter has 0 exits, with devices and without."""
    with booted(
        "interpreter", "mov al, 72\nout 0xe9, al\npushfq\nmov [0xb8000], al\n" + EXIT
    ) as machine:
        report = run(machine).report()
        assert (report.exits, report.exits_by_reason) == (0, {})
        assert report.device_accesses == 3


@pytest.mark.parametrize("core", TRAPS)
def test_computing_has_no_exits(core: str) -> None:
    """A guest that only computes exits once, at its end, without fills or emulation."""
    source = f"mov ecx, 50\nturn: add rax, rcx\nmov [{DATA}], rax\nloop turn\n" + EXIT
    with booted(core, source) as machine:
        assert run(machine).vmm.trace.by_reason == {Reason.IO: 1}


@pytest.mark.parametrize("core", CORES)
def test_stores_are_known(core: str) -> None:
    """While watching, the VMM knows which bytes of RAM the last instruction stored."""
    with booted(core, f"mov edi, {DATA + 0xFFE}\nmov ecx, 4\nrep stosb\npush rax\nnop\n") as machine:
        machine.vmm.watching = True
        run(machine, 3)
        stored = {gpa + i for gpa, n in machine.vmm.stored for i in range(n)}
        assert stored == set(range(DATA + 0xFFE, DATA + 0x1002))
        machine.step()
        assert machine.vmm.stored == [(machine.cpu.gpr[4], 8)]
        machine.step()
        assert machine.vmm.stored == []


@pytest.mark.parametrize("core", TRAPS)
def test_pure_lets_silent_instructions_run(core: str) -> None:
    """With --pure the guest's MOV from CS gives the host's selector; PUSHF does not show the TF that
    steps it."""
    with booted(core, "mov eax, cs\npushfq\npop rbx\n" + EXIT, pure=True) as machine:
        run(machine)
        assert machine.cpu.gpr[0] & ~0xFF == 0
        assert machine.cpu.gpr[3] & 0x100 == 0
        assert machine.cpu.gpr[3] & 0x200  # IF: the host's
        assert machine.vmm.trace.by_reason == {Reason.IO: 1}


@pytest.mark.parametrize("core", ["interpreter", "trap:portable"])
def test_what_a_translator_refuses(core: str) -> None:
    """TEST by its other encoding, NOP with an operand and LAHF with REX are completed, and counted as
    bridged."""
    source = ".byte 0xf6, 0xc8, 0x80\n.byte 0x0f, 0x0d, 0xc0\nstc\n.byte 0x48, 0x9f\n" + EXIT
    with booted(core, source) as machine:
        report = run(machine).report()
        assert (report.stop, report.bridged) == (Stop.EXIT, 3)
        assert report.registers is not None
        assert report.registers["rax"] >> 8 & 0xFF == 0x47


@pytest.mark.parametrize("core", TRAPS)
@pytest.mark.parametrize("source", ["ud2", ".byte 0x0f, 0xff", "xor eax, eax\njmp rax"])
def test_no_exit_lasts_longer_than_the_run(core: str, source: str) -> None:
    """The time of an exit begins with it, also when the fetch faults."""
    began = perf_counter_ns()
    with booted(core, source) as machine:
        run(machine)
        assert machine.stop is Stop.SHUTDOWN
        events = machine.vmm.trace.events
        assert events
        assert sum(event.vmm_ns for event in events) <= perf_counter_ns() - began
