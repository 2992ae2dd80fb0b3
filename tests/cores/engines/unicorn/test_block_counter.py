"""The interpreter counts free runs equally by machine code and by a Python hook at each block."""

from __future__ import annotations

import random
from contextlib import closing

import pytest

from app.bench import guests
from cores.engines import machine_code
from cores.engines.base import BudgetSpent
from cores.engines.unicorn.free_run import FreeRunner
from cores.lockstep.options import Options
from cores.lockstep.session import start
from cores.pc.stop import Stop
from cores.programs.program import LOAD_ADDRESS, Program, Segment
from cores.x86.registers import RCX


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
@pytest.mark.parametrize("seed", range(12))
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
        )[rng.randrange(5)] + bytes.fromhex("90" * 7)
    again = (-(len(body) + 9)).to_bytes(4, "little", signed=True)
    code = b"\x49\xc7\xc7\x06\0\0\0" + body + b"\x49\xff\xcf" + b"\x0f\x85" + again + b"\xe6\xf4"
    exact, free = outcome(program(code), free=False), outcome(program(code), free=True)
    assert exact[0] is not Stop.BUDGET
    assert free == exact


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
