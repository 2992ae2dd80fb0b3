"""The compound call: the same results by machine code and by single calls, and what interrupts it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from ptrace_lab import CODE, STACK, Guest

from cores.engines.base import INTERRUPTED, STEPPED, SYSTEM_CALL, Fault
from cores.engines.ptrace import compound_call, linux
from cores.engines.ptrace.engine import PtraceEngine
from cores.x86.registers import Vector


@pytest.fixture(params=["machine code", "one by one"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    """A guest whose engine uses one of the two."""
    if reason := PtraceEngine.probe():
        pytest.skip(reason)
    if request.param == "one by one":
        monkeypatch.setattr(compound_call, "calls", lambda: None)
    elif compound_call.calls() is None:
        pytest.skip("this host executes no machine code of ours")
    guest = Guest()
    yield guest
    guest.close()


def test_the_code_makes_the_calls_of_the_headers() -> None:
    """Its numbers are those that linux.py has, which are tested against the C headers."""
    for number in (linux.PTRACE_SETREGS, linux.PTRACE_GETREGS, linux.PTRACE_GETSIGINFO, linux.WALL):
        assert number.to_bytes(4, "little") in compound_call._CODE
    assert linux.USER_REGS.size == 8 * (compound_call.SIGNAL - compound_call.REGISTERS)


def test_stops_of_every_kind(either: Guest) -> None:
    """A step, a #GP, a page fault with its address, a system call, and registers in and out."""
    assert either.step("48ffc0", rax=41) == STEPPED  # inc rax
    assert either.cpu.gpr[0] == 42
    for enter in (either.engine.step, either.engine.run):
        either.code("f4")
        assert enter(either.cpu) == Fault(Vector.GP, 0)
        either.code("a0 00f0555555550000")  # mov al, [0x55555555f000]
        assert enter(either.cpu) == Fault(Vector.PF, None, 0x5555_5555_F000)
        either.code("0f05", rax=60)
        assert enter(either.cpu) == SYSTEM_CALL
    either.code("48ffc0 ebfb", rax=0)
    assert either.engine.reach(either.cpu, CODE, [3, *either.cpu.gpr[1:]], 10) == STEPPED


def test_a_signal_of_ours_does_not_disturb_it(either: Guest) -> None:
    """EINTR in the middle of the wait: the handler runs, and the guest goes on to its own stop."""
    ran: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: ran.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        while not ran:
            either.code("48ffc9 75fb f4", rcx=20_000_000)  # dec rcx; jnz; hlt
            while (exit := either.engine.run(either.cpu)) == INTERRUPTED:
                pass  # the heartbeat
            assert exit == Fault(Vector.GP, 0)
            assert (either.cpu.gpr[1], either.cpu.rip) == (0, CODE + 5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_other_threads_run_while_the_guest_does(either: Guest) -> None:
    """A run releases Python's lock: another thread interrupts a guest that never ends."""
    either.code("ebfe", rsp=STACK)
    asked = threading.Event()

    def ask() -> None:
        either.engine.interrupt()
        asked.set()

    timer = threading.Timer(0.02, ask)
    timer.start()
    while not asked.is_set():
        assert either.engine.run(either.cpu) == INTERRUPTED
    timer.join()


def test_a_process_that_was_killed_is_reported(either: Guest) -> None:
    """Its end is a Failed exit with the signal, whichever way it was entered."""
    vcpu = either.engine._active
    assert vcpu is not None
    either.code("90")
    signal.pidfd_send_signal(vcpu.process._pidfd, signal.SIGKILL)
    exit = either.engine.step(either.cpu)
    assert "killed" in str(exit)
