"""The isolation audit finds what a vCPU process has too much, or lacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cores.debugging.live_session import LiveSession
from cores.engines.base import KERNEL_SPACE, USER_SPACE
from cores.engines.ptrace import process
from cores.engines.ptrace.engine import PtraceEngine
from cores.engines.ptrace.process import LIMITS, VcpuProcess
from cores.errors import UnavailableError
from cores.lockstep.options import Options
from cores.machine import isolation_audit as control
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.ram import PAGE, Ram
from cores.pc.stop import Stop
from cores.programs.loader import load_program
from cores.x86.virtual_cpu import VirtualCpu

pytestmark = pytest.mark.skipif(
    PtraceEngine.probe() is not None, reason=f"trap:native: {PtraceEngine.probe()}"
)
CODE = 0x100000
NATIVE = Options(cores=("trap:native",), ram=4 << 20)


@pytest.fixture
def ram() -> Iterator[Ram]:
    ram = Ram(4 << 20)
    ram.view[CODE : CODE + PAGE] = b"\x90" * PAGE
    yield ram
    ram.close()


def opened(ram: Ram) -> PtraceEngine:
    """An engine that has run in both spaces."""
    engine = PtraceEngine()
    engine.load(PhysicalMemory(ram))
    for space in (USER_SPACE, KERNEL_SPACE):
        engine.map(space, CODE, CODE, PAGE, writable=True, executable=True)
        engine.space = space
        engine.step(VirtualCpu(rip=CODE))
    return engine


def without(monkeypatch: pytest.MonkeyPatch, wall: str) -> None:
    """Start processes without one of the measures that strip them."""
    demand = VcpuProcess._demand

    def all_but(process: VcpuProcess, name: str, number: int, *arguments: int) -> None:
        if name != wall:
            demand(process, name, number, *arguments)

    monkeypatch.setattr(VcpuProcess, "_demand", all_but)


def test_nothing_is_found_where_all_stands(ram: Ram) -> None:
    """The audit finds nothing in a healthy engine: both processes have guest RAM and its twin only."""
    with closing(opened(ram)) as engine:
        assert engine.escapes() == ()


def test_limits_that_are_raised_are_found(ram: Ram, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each raised limit is found."""
    for limit in LIMITS:
        monkeypatch.setattr(process, "LIMITS", tuple(one for one in LIMITS if one != limit))
        with closing(opened(ram)) as engine:
            assert engine.escapes() == ("its limits have been raised",) * 2


def test_no_filter_without_no_new_privs(ram: Ram, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without no_new_privs and capabilities the kernel refuses the filter (seccomp(2), EACCES), and the
    process does not become a vCPU."""
    without(monkeypatch, "prctl")
    with pytest.raises(UnavailableError, match="refused seccomp"):
        opened(ram)


@pytest.mark.parametrize(
    ("wall", "words"),
    [("munmap", "[stack] is mapped at"), ("seccomp", "its filter of system calls is gone"),
     pytest.param("capset", "it has capabilities", marks=pytest.mark.skipif(
         os.geteuid() != 0, reason="only root has capabilities"))],
)  # fmt: skip
def test_what_was_not_taken_away_is_found(
    ram: Ram, monkeypatch: pytest.MonkeyPatch, wall: str, words: str
) -> None:
    """A stack, a missing filter and capabilities are reported for each process."""
    without(monkeypatch, wall)
    with closing(opened(ram)) as engine:
        found = engine.escapes()
        assert found is not None
        assert sum(words in each for each in found) == 2


def test_a_descriptor_too_many_is_found(ram: Ram, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inherited descriptor of a host file is found."""
    without(monkeypatch, "close_range")
    fd = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        with closing(opened(ram)) as engine:
            found = engine.escapes()
            assert found is not None
            assert any(__file__ in words for words in found)
    finally:
        os.close(fd)


def test_memory_of_another_s_is_found(ram: Ram) -> None:
    """A mapping of another machine's RAM is found, though it has the same name."""
    other = Ram(4 << 20)
    try:
        with closing(opened(ram)) as engine:
            engine._memory = PhysicalMemory(other)
            found = engine.escapes()
            assert found is not None
            assert any(f"is mapped at {CODE:x}" in words for words in found)
    finally:
        other.close()


def test_a_guest_that_has_got_out_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding stops the machine, ends its processes, and is reported by the session."""
    without(monkeypatch, "munmap")
    guest = Path(__file__).resolve().parents[3] / "assets" / "guests" / "hello.s"
    with closing(LiveSession(load_program(str(guest), NATIVE.ram), NATIVE)) as session:
        snapshot = session.snapshot()
        assert snapshot.audits == 1
        assert any("[stack] is mapped" in words for words in snapshot.escaped)
        assert snapshot.machines[0].stop is Stop.ERROR
        assert "lost control" in snapshot.machines[0].reason
        session.step()
        assert session.snapshot().machines[0].instructions == 0


def test_a_session_is_audited_now_and_then_and_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A running session is audited once in each interval, and once more at its end."""
    monkeypatch.setattr(control, "INTERVAL", 3600.0)
    guest = Path(__file__).resolve().parents[3] / "assets" / "guests" / "hello.s"
    with closing(LiveSession(load_program(str(guest), NATIVE.ram), NATIVE)) as session:
        assert session.snapshot().audits == 1
        session.step()
        assert session.snapshot().audits == 1
        session.run(60)
        snapshot = session.snapshot()
        assert snapshot.machines[0].stop is Stop.EXIT
        assert (snapshot.audits, snapshot.escaped) == (2, ())
        assert session.snapshot().audits == 2


def test_emulators_cannot_be_asked() -> None:
    """For emulators no audit is made, and none is claimed."""
    options = Options(cores=("interpreter", "trap:portable"), ram=4 << 20)
    guest = Path(__file__).resolve().parents[3] / "assets" / "guests" / "hello.s"
    with closing(LiveSession(load_program(str(guest), options.ram), options)) as session:
        assert session.snapshot().audits is None
