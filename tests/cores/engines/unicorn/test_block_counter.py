"""The interpreter counts free runs equally by machine code and by a Python hook at each block."""

from __future__ import annotations

import random
from contextlib import closing

import pytest

from app.bench import guests
from cores.engines import machine_code
from cores.engines.base import BudgetSpent, Exit, Intercept
from cores.engines.unicorn.cpu import Fetch
from cores.engines.unicorn.free_run import FreeRunner
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.pc.stop import Stop
from cores.programs.program import LOAD_ADDRESS, Program, Segment
from cores.vmm.free_run import OVERLOOKED
from cores.x86.registers import RBX, RCX
from cores.x86.virtual_cpu import VirtualCpu


@pytest.fixture(params=["machine code", "Python"])
def counter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to count blocks."""
    if request.param == "Python":
        monkeypatch.setattr(machine_code, "executable", lambda code: None)


def program(code: bytes) -> Program:
    return Program("test", "flat", LOAD_ADDRESS, (Segment(LOAD_ADDRESS, code, len(code)),), "")


def outcome(guest: Program, *, free: bool) -> tuple[Stop | None, int, tuple[int, ...]]:
    with closing(start(guest, "interpreter", Options())) as machine:
        if free:
            machine.run_free(300)
        else:
            machine.vmm.budget = 20_000
            while machine.stop is None:
                machine.step()
        return machine.stop, machine.vmm.instructions, machine.cpu.state()


@pytest.mark.usefixtures("counter")
def test_a_loop_of_many_turns_is_counted_exactly() -> None:
    """Half a million turns are counted exactly."""
    stop, instructions, _ = outcome(guests.compute(500_000), free=True)
    assert (stop, instructions) == (Stop.EXIT, 5 * 500_000 + 2)


@pytest.mark.usefixtures("counter")
@pytest.mark.parametrize("seed", [*range(20), 471])
def test_code_that_changes_itself(seed: int) -> None:
    """Stores into the code behind, before and under themselves, also by REP, give the counts and
    registers of single steps."""
    rng = random.Random(seed)
    body = b""
    for _ in range(rng.randrange(3, 14)):
        body += (
            b"\xc6\x05" + rng.randrange(-7, 24).to_bytes(4, "little", signed=True) + b"\x90",
            bytes.fromhex("4883c007"),  # add rax, 7
            bytes.fromhex("b905000000 488dbc2400ffffff f3aa"),  # ecx = 5, rdi = rsp - 256: rep stosb
            bytes.fromhex("a801 7403 48ffc3"),  # test al, 1; jz over; inc rbx
            b"\x48\xc7\xc5" + rng.randbytes(4),  # mov rbp, ...
            bytes.fromhex("e4e9"),  # in al, 0xe9: left to the VMM
            bytes.fromhex("48ffc0 0fa2"),  # inc rax; cpuid
        )[rng.randrange(7)] + bytes.fromhex("90" * 7)
    again = (-(len(body) + 9)).to_bytes(4, "little", signed=True)
    code = b"\x49\xc7\xc7\x06\0\0\0" + body + b"\x49\xff\xcf" + b"\x0f\x85" + again + b"\xe6\xf4"
    exact = outcome(program(code), free=False)
    assert exact[0] is not Stop.BUDGET
    assert outcome(program(code), free=True) == exact


@pytest.mark.usefixtures("counter")
def test_a_store_that_overwrites_itself_goes_on() -> None:
    """`mov byte [rip - 7], 0x90` completes, though its translation is discarded each time it runs."""
    code = bytes.fromhex("c605f9ffffff90 e6f4")
    assert outcome(program(code), free=True)[:2] == (Stop.EXIT, 2)


@pytest.mark.skipif(
    machine_code.executable(b"\xc3") is None, reason="this host calls Python for each block"
)
@pytest.mark.parametrize("code", ["ebfe", "e2fe", "90ebfe", "eb0090ebfd"])
def test_a_jump_to_itself(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that ends in `jmp .` or counts in `loop .` does not call Python at each turn."""
    calls = []
    on_block = FreeRunner._on_block

    def noted(runner: FreeRunner, address: int, size: int) -> None:
        calls.append(address)
        on_block(runner, address, size)

    monkeypatch.setattr(FreeRunner, "_on_block", noted)
    with closing(start(program(bytes.fromhex(code)), "interpreter", Options())) as machine:
        machine.cpu.gpr[RCX] = 1 << 40
        exit = machine.vmm.enter(machine.engine.lead, 100_000)
        assert isinstance(exit, BudgetSpent)
        assert machine.engine.executed == 100_000
    assert len(calls) < 50


class Steps:
    """Counts the single steps of free runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        single = FreeRunner.single

        def counted(runner: FreeRunner, cpu: VirtualCpu, fetch: Fetch | None = None) -> Exit:
            self.count += 1
            return single(runner, cpu, fetch)

        monkeypatch.setattr(FreeRunner, "single", counted)


@pytest.mark.usefixtures("counter")
def test_instructions_before_one_of_the_vmm_are_no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unicorn executes a block up to the instruction that the VMM completes, and counts it exactly."""
    steps = Steps(monkeypatch)
    # ecx = 500; 1: inc eax; inc ebx; in al, 0xe9; inc ebx; out 0xe9, al; dec ecx; jnz 1b; out 0xf4, al
    code = bytes.fromhex("b9f4010000 ffc0 ffc3 e4e9 ffc3 e6e9 ffc9 75f2 e6f4".replace(" ", ""))
    with closing(start(program(code), "interpreter", Options())) as machine:
        machine.run_free(300)
        assert machine.stop is Stop.EXIT
        assert machine.vmm.instructions == 1 + 7 * 500 + 1
        assert machine.cpu.gpr[RBX] == 1000
        assert len(machine.board.console) == 500
    assert 0 < steps.count < 20


@pytest.mark.usefixtures("counter")
def test_a_store_into_its_block_before_one_of_the_vmm() -> None:
    """A store that changes its own block, in which an IN and then a jump follow, is counted once."""
    # ecx = 20; again: inc ebx; mov byte [rip + 2], 0x90; in al, 0xe9; nop; dec ecx; jnz again
    code = "b914000000 ffc3 c6050200000090 e4e9 90 ffc9 75f0 e6f4"
    stop, instructions, _ = outcome(program(bytes.fromhex(code)), free=True)
    assert (stop, instructions) == (Stop.EXIT, 1 + 6 * 20 + 1)


def test_it_stops_where_the_next_page_is_missing() -> None:
    """A leader stops at a breakpoint in code that Unicorn cannot translate, since it ends at a missing
    page."""
    # rdi = 0x1ffff0; al = 0x90; ecx = 16; rep stosb; sub rdi, 16; jmp rdi: 16 NOPs, then a missing page
    code = bytes.fromhex("48c7c7f0ff1f00 b090 b910000000 f3aa 4883ef10 ffe7")
    with closing(start(program(code), "interpreter", Options(ram=2 << 20))) as machine:
        machine.engine.stops = frozenset({0x1FFFFD})
        exit = machine.vmm.enter(machine.engine.lead, 100)
        assert isinstance(exit, Intercept)
        assert (machine.cpu.rip, machine.engine.executed) == (0x1FFFFD, 6 + 13)


@pytest.mark.usefixtures("counter")
def test_other_code_at_that_address() -> None:
    """Where an address space has other code at the address of such an instruction, it is executed; and
    so is code that is stored there."""
    # 2 MiB at 0x400000 lead to 0x400000, then to 0x600000: each inc ebx and in al, 0xe9 or inc ebx, ret
    there = {0x400000: "ffc3 e4e9 c3", 0x600000: "ffc3 ffc3 c3"}
    code = (
        "b940000000 ba00000040 c1ea08"  # ecx = 64; edx = 0x400000
        "ffd2"  # again: call rdx
        "bf10400100 813700002000 0f20d8 0f22d8"  # [0x14010] ^= 0x200000: the other one; load CR3
        "ffc9 75e9"  # dec ecx; jnz again
        "c602ff c64202ff c64203c3 ffd2"  # now inc ebx stands in place of IN
        "e6f4"
    ).replace(" ", "")
    guest = Program(
        "test", "flat", LOAD_ADDRESS,
        tuple(Segment(at, b, len(b)) for at, b in (
            (LOAD_ADDRESS, bytes.fromhex(code)),
            *((at, bytes.fromhex(text.replace(" ", ""))) for at, text in there.items()),
        )), "",
    )  # fmt: skip
    ends = []
    for free in (True, False):
        with closing(start(guest, "interpreter", Options())) as machine:
            if free:
                machine.run_free(300)
            else:
                while machine.stop is None:
                    machine.step()
            ends.append((machine.stop, machine.vmm.instructions, machine.cpu.gpr[RBX]))
    assert ends[0] == ends[1]
    assert ends[0][0] is Stop.EXIT
    assert ends[0][2] == 32 + 64 + 2


@pytest.mark.parametrize(
    ("code", "free", "noted"),
    [
        ("d9ee", True, True),  # fldz
        ("9bd9eee4e9", True, True),  # fwait; fldz; in al, 0xe9
        ("d9ee", False, False),  # the VMM looks before each step
        ("e6f4d9ee", True, False),  # behind the exit
        ("dbe3dbe2d97c24f8", True, False),  # fninit, fnclex, fnstcw: no fault
        ("0f58c1", True, False),  # addps
    ],
)
def test_use_of_x87_is_noted(code: str, free: bool, noted: bool) -> None:
    """Where the guest has used the x87 stack freely, a note says that its faults are overlooked."""
    guest = program(bytes.fromhex(code + "e6f4"))
    with closing(start(guest, "interpreter", Options())) as machine:
        if free:
            machine.run_free(300)
        while machine.stop is None:
            machine.step()
        assert (OVERLOOKED in machine.notes()) is noted


def test_x87_that_is_disabled_is_not_noted() -> None:
    """With CR0.TS set each use faults, at the first time and later."""
    guest = program(bytes.fromhex("0f20c0 0c08 0f22c0 d9ee"))  # mov eax, cr0; or al, 8; mov cr0; fldz
    with closing(start(guest, "interpreter", Options())) as machine:
        machine.run_free(300)
        assert machine.stop is Stop.SHUTDOWN  # no handler for #NM
        assert OVERLOOKED not in machine.notes()
