"""Free running: time slices, the alarm, interrupts, sleep, and counts."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from time import perf_counter_ns

import pytest
from machine_lab import CORES, DATA, EXIT, RAM, TRAPS, booted, needs_assembler, program, require

from cores.debugging.edits import MemoryPoke
from cores.engines.base import DeprivilegedEngine
from cores.engines.ptrace.process import VcpuProcess
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.pc.stop import Stop
from cores.vmm import free_run as freerun
from cores.vmm.free_run import Alarm
from cores.vmm.patched_code import PatchedCode
from cores.vmm.patching import patcher as patch

pytestmark = needs_assembler

SPIN = "turn: inc rbx\njmp turn\n"
LONG = 240.0
"""Seconds that no test waits for: it ends by something else, or fails by its time limit."""


@pytest.mark.parametrize("core", [core for core in TRAPS if core != "trap:portable"])
def test_time_of_the_exit(core: str) -> None:
    """An exit that comes for the first time happens when the guest has come to it, not when it was
    entered: 100 million turns of a loop take more than 5 ms on any CPU."""
    source = (
        "rdtsc\n mov ebx, eax\n mov ecx, 100000000\nturn: dec ecx\n jnz turn\n rdtsc\n sub eax, ebx\n"
    )
    with booted(core, source + "out 0xf4, eax\ncli\nhlt\n") as machine:
        machine.run_free(60)
        assert machine.stop is Stop.EXIT
        assert machine.vmm.exit_status is not None
        assert machine.vmm.exit_status >= 5_000_000


@pytest.mark.parametrize("core", CORES)
def test_slices(core: str) -> None:
    """A spinning guest is interrupted at the end of its slice, and continues there."""
    with booted(core, SPIN) as machine:
        while not (first := machine.cpu.gpr[3]):
            machine.run_free(0.02)
        while machine.cpu.gpr[3] == first:
            machine.run_free(0.02)
        assert machine.stop is None
        assert machine.cpu.gpr[3] > first > 0


@pytest.mark.parametrize("core", CORES)
def test_time_stands_still_between_slices(core: str) -> None:
    """Virtual time passes only while the guest runs."""
    with booted(core, SPIN) as machine:
        machine.run_free(0.02)
        before = machine.vmm.ticks
        pause = threading.Event()
        pause.wait(0.05)
        machine.run_free(0.0)
        assert machine.vmm.ticks == before


@pytest.fixture
def uninterrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that do not return by themselves, neither after a burst nor by the vCPU process's
    timer."""
    demand = VcpuProcess._demand

    def without_timer(self: VcpuProcess, name: str, number: int, *arguments: int) -> None:
        if name != "setitimer":
            demand(self, name, number, *arguments)

    monkeypatch.setattr(freerun, "BURST", 1 << 60)
    monkeypatch.setattr(VcpuProcess, "_demand", without_timer)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.usefixtures("uninterrupted")
def test_interrupt_from_another_thread(core: str) -> None:
    """interrupt() from another thread makes the run return, and the runner continues it."""
    with booted(core, SPIN) as machine:
        returned = []
        enter = machine.vmm.enter

        def watched(*args: object) -> object:
            exit = enter(*args)  # type: ignore[arg-type]
            returned.append(exit)
            if len(returned) > 2:
                machine.vmm.stop = Stop.BUDGET
            return exit

        machine.vmm.enter = watched  # type: ignore[method-assign,assignment]
        stop = threading.Event()

        def interrupt() -> None:
            while not stop.wait(0.002):
                machine.engine.interrupt()

        other = threading.Thread(target=interrupt)
        other.start()
        machine.run_free(LONG)
        stop.set()
        other.join()
        assert len(returned) > 2


@pytest.mark.parametrize("core", CORES)
def test_ends_in_free_mode(core: str) -> None:
    """A write to the exit port stops the guest at once; a HLT that nothing can end halts it."""
    with booted(core, "mov al, 7\nout 0xf4, al\n" + SPIN) as machine:
        machine.run_free(LONG)
        assert (machine.stop, machine.vmm.exit_status) == (Stop.EXIT, 7)
    for sleep in ("cli\nhlt\n", "sti\nhlt\n"):
        with booted(core, sleep) as machine:
            machine.run_free(LONG)
            assert machine.stop is Stop.HALTED


HASTY = """
        lea     rax, [rip + timer]
        lea     rdi, [rip + idt + 0x200]        # vector 0x20
        mov     [rdi], ax
        mov     dword ptr [rdi + 2], 0x8e000010
        shr     rax, 16
        mov     [rdi + 6], ax
        lidt    [rip + idtr]
        mov     al, 0x11                # the PIC: vectors from 0x20, the timer alone unmasked
        out     0x20, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 4
        out     0x21, al
        mov     al, 1
        out     0x21, al
        mov     al, 0xfe
        out     0x21, al
        mov     al, 0x34                        # every 2 clocks of 838 ns
        out     0x43, al
        mov     al, 2
        out     0x40, al
        mov     al, 0
        out     0x40, al
        sti
        mov     ecx, 20000
turn:   dec     ecx
        jnz     turn
        mov     al, bl
        out     0xf4, al
timer:  mov     bl, 1
        push    rax
        mov     al, 0x20
        out     0x20, al
        pop     rax
        iretq
idtr:   .short  0x20f
        .quad   idt
        .balign 4096
idt:    .space  0x210
"""


ASKING = """
        lea     rax, [rip + done]
        lea     rdi, [rip + idt + 0x2e0]        # vector 0x2e: IRQ 14
        mov     [rdi], ax
        mov     dword ptr [rdi + 2], 0x8e000010
        shr     rax, 16
        mov     [rdi + 6], ax
        lidt    [rip + idtr]
        mov     al, 0x11                # the PICs: vectors from 0x20 and 0x28, the disk alone unmasked
        out     0x20, al
        out     0xa0, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 0x28
        out     0xa1, al
        mov     al, 4
        out     0x21, al
        mov     al, 2
        out     0xa1, al
        mov     al, 1
        out     0x21, al
        out     0xa1, al
        mov     al, 0xfb
        out     0x21, al
        mov     al, 0xbf
        out     0xa1, al
        mov     ebx, 60
next:   xor     ecx, ecx
        mov     dx, 0x1f7
        mov     al, 0x40                # READ VERIFY: the interrupt comes at once
        out     dx, al
        mov     r8d, 3000
long:   dec     r8d
        jnz     long
        sti
        nop
        nop
        cli
        dec     ecx
        jnz     late
        dec     ebx
        jnz     next
        mov     al, 1
        out     0xf4, al
late:   mov     al, 0
        out     0xf4, al
done:   mov     ecx, 1
        mov     dx, 0x1f7
        in      al, dx
        mov     al, 0x20
        out     0xa0, al
        out     0x20, al
        iretq
idtr:   .short  0x2ef
        .quad   idt
        .balign 4096
idt:    .space  0x2f0
"""


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("core", ["interpreter", *TRAPS])
def test_interrupts_that_the_guest_asks_for(core: str, slow: bool, tmp_path: Path) -> None:
    """An interrupt that answers a command does not wait, however many came before it while interrupts
    were disabled."""
    require(core)
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(512))
    options = Options(ram=RAM, disks=(str(disk),), slow=slow)
    with closing(start(program(ASKING), core, options)) as machine:
        machine.run_free(LONG)
        assert (machine.stop, machine.vmm.exit_status) == (Stop.EXIT, 1), machine.vmm.reason


@pytest.mark.parametrize("core", ["interpreter", *TRAPS])
def test_a_timer_faster_than_its_handler(core: str) -> None:
    """A guest gets on although an interrupt always waits when a handler ends."""
    with booted(core, HASTY) as machine:
        machine.run_free(LONG)
        assert (machine.stop, machine.vmm.exit_status) == (Stop.EXIT, 1), machine.vmm.reason


ONE_SHOT = (
    HASTY[: HASTY.index("        mov     al, 0x34")]
    + """
        xor     ebx, ebx
        mov     al, 0x30                        # once, 2 clocks after each time that it is set
        out     0x43, al
        mov     al, 2
        out     0x40, al
        mov     al, 0
        out     0x40, al
        sti
wait:   cmp     ebx, 100
        jb      wait
        cli
        mov     al, 1
        out     0xf4, al
timer:  push    rax
        inc     ebx
        mov     al, 2
        out     0x40, al
        mov     al, 0
        out     0x40, al
        mov     al, 0x20
        out     0x20, al
        pop     rax
        iretq
"""
    + HASTY[HASTY.index("idtr:") :]
)


@pytest.mark.parametrize("slow", [False, True], ids=["known", "slow"])
@pytest.mark.parametrize("core", CORES)
def test_a_timer_that_is_set_by_its_handler(core: str, slow: bool) -> None:
    """What has been held back comes at the end of the breath, though no device has an event then and
    the guest makes no exit."""
    with booted(core, ONE_SHOT, slow=slow) as machine:
        machine.run_free(60)
        assert (machine.stop, machine.vmm.exit_status) == (Stop.EXIT, 1), machine.vmm.reason


ANSWERED = (
    HASTY[: HASTY.index("        mov     al, 0xfe")].replace("idt + 0x200", "idt + 0x240")
    + """
        mov     al, 0xef                        # the UART alone
        out     0x21, al
        xor     ebx, ebx
        mov     edx, 0x3f9
next:   cli
        mov     ecx, ebx
        mov     al, 2                           # its transmitter is empty
        out     dx, al
        sti
wait:   cmp     ebx, ecx
        je      wait
        cmp     ebx, 9
        jb      next
        cli
        mov     al, 1
        out     0xf4, al
timer:  inc     ebx
        xor     eax, eax
        out     dx, al
        mov     al, 0x20
        out     0x20, al
        iretq
"""
    + HASTY[HASTY.index("idtr:") :].replace("0x20f", "0x24f").replace("0x210", "0x250")
)


@pytest.mark.parametrize("slow", [False, True], ids=["known", "slow"])
@pytest.mark.parametrize("core", CORES)
def test_an_interrupt_asked_for_while_they_are_disabled(core: str, slow: bool) -> None:
    """It comes when the guest enables interrupts, which is an exit on no core that delivers them."""
    with booted(core, ANSWERED, slow=slow) as machine:
        machine.run_free(60)
        assert (machine.stop, machine.vmm.exit_status) == (Stop.EXIT, 1), machine.vmm.reason


TIRING = (
    HASTY[: HASTY.index("        sti\n")]
    .replace("mov     al, 2\n", "mov     al, 0xa8\n")  # every 1,192 clocks: 1 ms
    .replace("mov     al, 0\n        out     0x40", "mov     al, 4\n        out     0x40")
    + """
        xor     ebx, ebx
        sti
        mov     ecx, 30000
turn:   mov     rax, cr0
        dec     ecx
        jnz     turn
        cli
        mov     al, bl
        out     0xf4, al
timer:  push    rax
        push    rcx
        inc     ebx
        mov     ecx, 300
tire:   mov     rax, cr0
        dec     ecx
        jnz     tire
        mov     al, 0x20
        out     0x20, al
        pop     rcx
        pop     rax
        iretq
"""
    + HASTY[HASTY.index("idtr:") :]
)


@pytest.mark.parametrize("core", TRAPS)
def test_a_handler_that_takes_longer_than_the_timer(core: str) -> None:
    """Where each exit goes the long way, a timer's handler that makes hundreds gets a sixteenth of the
    exits, not half."""
    with booted(core, TIRING, slow=True) as machine:
        machine.run_free(LONG)
        assert machine.stop is Stop.EXIT, machine.vmm.reason
        ticks = machine.vmm.exit_status
        assert ticks is not None
        assert 4 < ticks <= 30  # half of the exits would be 100


@pytest.mark.parametrize("core", TRAPS)
def test_a_tired_guest_that_asks(core: str, tmp_path: Path) -> None:
    """While such a timer's interrupt is held back, one that answers a command comes at once."""
    require(core)
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(512))
    gate = ASKING[: ASKING.index("        lidt")].replace("done", "timer").replace("0x2e0", "0x200")
    timer = TIRING[TIRING.index("        mov     al, 0x34") : TIRING.index("        xor     ebx, ebx")]
    handler = TIRING[TIRING.index("timer:") : TIRING.index("idtr:")].replace("inc     ebx", "nop")
    asking = ASKING.replace("0xfb", "0xfa").replace("        mov     ebx, 60", f"{timer}mov ebx, 60")
    source = gate + asking.replace("idtr:", f"{handler}idtr:")
    options = Options(ram=RAM, disks=(str(disk),), slow=True)
    with closing(start(program(source), core, options)) as machine:
        machine.run_free(LONG)
        assert (machine.stop, machine.vmm.exit_status) == (Stop.EXIT, 1), machine.vmm.reason


@pytest.mark.parametrize("core", CORES)
def test_a_fault_without_handlers(core: str) -> None:
    """A fault without handlers shuts the machine down, and raises no exception."""
    with booted(core, "ud2\n") as machine:
        machine.run_free(LONG)
        assert machine.stop is Stop.SHUTDOWN


def test_the_interpreter_counts() -> None:
    """Free runs on Unicorn have exact counts, REPs included, also on the portable trap core."""
    source = (
        f"mov ecx, 1000\nturn: inc rbx\nloop turn\nmov edi, {DATA}\nmov ecx, 50\nrep stosb\n" + EXIT
    )
    for core in ("interpreter", "trap:portable"):
        with booted(core, source) as machine:
            machine.run_free(LONG)
            assert machine.report().instructions == 1 + 2 * 1000 + 3 + 2


@pytest.mark.parametrize("core", ["trap:native", "kvm"])
def test_real_cpus_do_not_count(core: str) -> None:
    """Where the CPU ran on its own the count is None."""
    with booted(core, "nop\n" + EXIT) as machine:
        machine.run_free(LONG)
        assert machine.report().instructions is None
        assert {event.n for event in machine.vmm.trace.events} == {None}


@pytest.mark.parametrize("core", TRAPS)
def test_pure_lets_them_pass(core: str) -> None:
    """With --pure the guest's kernel reads the selectors and flags of ring 3."""
    source = "mov ebx, cs\npushfq\npop rcx\nstr edx\n" + EXIT
    with booted(core, source, pure=True) as machine:
        machine.run_free(LONG)
        assert machine.stop is Stop.EXIT
        assert machine.cpu.gpr[3] == 0x33
        assert machine.cpu.gpr[1] & 0x200
        assert "segment" not in machine.vmm.trace.by_reason


@pytest.mark.parametrize("core", TRAPS)
def test_silent_instructions_are_caught(core: str) -> None:
    """In free mode the guest reads its own CS and flags."""
    with booted(core, "mov eax, cs\npushfq\npop rbx\nsti\npushfq\npop rcx\ncli\n" + EXIT) as machine:
        machine.run_free(LONG)
        assert machine.stop is Stop.EXIT
        assert machine.cpu.gpr[3] & 0x200 == 0
        assert machine.cpu.gpr[1] & 0x200


def test_the_alarm_rings() -> None:
    """The alarm interrupts the engine at its time, not after None, and at a sooner time if one is
    set."""
    rung = threading.Event()

    class Bell:
        def interrupt(self) -> None:
            rung.set()

    alarm = Alarm(Bell())  # type: ignore[arg-type]
    try:
        alarm.set(perf_counter_ns() + 10**12)
        alarm.set(perf_counter_ns())
        assert rung.wait(LONG)
    finally:
        alarm.close()


def test_an_alarm_that_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alarm cancelled before its time does not ring; the next one rings once."""
    clock, rings, rung = [0], [], threading.Event()
    monkeypatch.setattr(freerun, "perf_counter_ns", lambda: clock[0])

    class Bell:
        def interrupt(self) -> None:
            rings.append(clock[0])
            rung.set()

    alarm = Alarm(Bell())  # type: ignore[arg-type]
    try:
        alarm.set(10)
        alarm.set(None)
        clock[0] = 20
        alarm.set(30)
        clock[0] = 30
        assert rung.wait(LONG)
    finally:
        alarm.close()
    assert rings == [30]


@pytest.mark.parametrize("core", CORES)
def test_code_that_is_poked_runs(core: str) -> None:
    """An edited byte of code runs from then on, patched or not."""
    source = "turn: mov al, 65\nout 0xe9, al\nmov ecx, 1000\n1: loop 1b\njmp turn"
    with booted(core, source) as machine:
        while b"A" not in machine.board.console:
            machine.run_free(0.02)
        MemoryPoke(0x100001, b"B").apply(machine)
        del machine.board.console[:]
        while b"B" not in machine.board.console:
            machine.run_free(0.02)
        assert machine.board.console.lstrip(b"A").rstrip(b"B") == b""


def maze(pages: int) -> str:
    """A chain of calls through so many pages, five times; each has eight branches to others, never
    taken, and one silent instruction: a PUSHF that must show the CLI before it."""
    source = "cli\nxor ebx, ebx\nmov ebp, 5\n1: call page0\ndec ebp\njnz 1b\n" + EXIT
    for page in range(pages):
        branches = "".join(f"jz at{(page + 2 + i) % pages}_{i}\n" for i in range(8))
        targets = "".join(f"at{page}_{i}: nop\n" for i in range(8))
        on = f"call page{page + 1}\n" if page + 1 < pages else ""
        source += (
            f".balign 4096\npage{page}: pushfq\npop rax\nbt eax, 9\ncmc\nadc ebx, 0\n"
            f"xor eax, eax\ninc eax\n{branches}{on}ret\n{targets}ret\n"
        )
    return source


@pytest.mark.parametrize("hides", [True, False], ids=["hidden", "readable"])
def test_more_branches_than_can_be_known(hides: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many branch targets the patcher starts anew: memory stays bounded, and no silent
    instruction runs unseen."""
    monkeypatch.setattr(patch, "MOST_TARGETS", 64)
    begun = []
    go_exact = PatchedCode.go_exact

    def counted(patched: PatchedCode) -> None:
        begun.append(patched.patcher)
        go_exact(patched)

    monkeypatch.setattr(PatchedCode, "go_exact", counted)
    with booted("trap:native", maze(40)) as machine:
        assert isinstance(machine.engine, DeprivilegedEngine)
        machine.engine.hides_code &= hides
        machine.run_free(LONG)
        assert machine.stop is Stop.EXIT
        assert machine.cpu.gpr[3] == 5 * 40
        assert len(begun) > 5
        assert all(p is not None and sum(map(len, p._targets.values())) <= 64 + 2 * 9 for p in begun)


@pytest.mark.parametrize(
    ("source", "instructions"),
    [
        ("mov edi, 0x100000\nmov esi, edi\nmov ecx, 64\nrep movsb\n" + EXIT, 6),
        ("lea rdi, [rip + self]\nmov al, 0xf3\nmov ecx, 1\nself: rep stosb\n" + EXIT, 6),
        ("mov edi, 0xff000\nmov al, 0xf4\nmov ecx, 0x1100\nrep stosb\n", 5),
        (
            "mov edi, 0x110000\nmov al, 0xf4\nmov ecx, 16\ncall fill\n"
            "mov edi, 0xff000\nmov ecx, 0x1100\ncall fill\nfill: rep stosb\nret\n",
            11,
        ),
    ],
    ids=["the same bytes", "its first byte", "halts behind it", "the second time"],
)
@pytest.mark.parametrize("core", ["interpreter", "trap:portable"])
def test_a_rep_that_overwrites_itself_ends(core: str, source: str, instructions: int) -> None:
    """Unicorn alone would begin its store to its own block for ever. It is completed as a whole, and
    counts once."""
    with booted(core, source) as machine:
        machine.run_free(LONG)
        assert machine.stop in (Stop.EXIT, Stop.HALTED)
        assert machine.vmm.instructions == instructions
