"""Sessions of several machines: absent cores, cores that leave, and the result."""

from __future__ import annotations

from contextlib import closing

import pytest
from machine_lab import EXIT, RAM, needs_assembler, program, require

from cores.engines import registry
from cores.engines.base import Exit, Failed
from cores.engines.portable.engine import PortableTrapEngine
from cores.engines.registry import Availability
from cores.errors import EngineError, UnavailableError
from cores.lockstep import options as run_options
from cores.lockstep import session
from cores.lockstep.options import Options
from cores.lockstep.session import Session
from cores.pc.stop import Stop
from cores.runs.compare import compare
from cores.x86.virtual_cpu import VirtualCpu

pytestmark = needs_assembler

HELLO = "mov al, 72\nout 0xe9, al\nnop\nnop\n" + EXIT
TWO = ("interpreter", "trap:portable")


class Failing(PortableTrapEngine):
    """An engine that its host stops at the third step."""

    steps = 0
    raises = False

    def step(self, cpu: VirtualCpu) -> Exit:
        self.steps += 1
        if self.steps < 3:
            return super().step(cpu)
        if self.raises:
            raise EngineError("the host's memory is full")
        return Failed("the host's patience is over")


class Raising(Failing):
    raises = True


@pytest.fixture(params=[Failing, Raising])
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Failing]:
    """The trap core of this host fails midway."""
    create = registry.create

    def instead(name: str) -> object:
        return request.param() if registry.resolve(name).startswith("trap") else create(name)

    monkeypatch.setattr(session.registry, "create", instead)
    monkeypatch.setattr(run_options, "DEFAULT_CORES", TWO)
    return request.param


def test_a_core_that_the_host_stops_leaves(failing: type[Failing]) -> None:
    """An unnamed core that fails leaves with its reason, and the remaining core is no divergence."""
    report = compare(program(HELLO), Options(ram=RAM))
    stopped = next(core for core in report.cores if core.core == "trap:portable")
    assert stopped.stop is Stop.ERROR
    assert "the host's" in (stopped.reason or "")
    assert (report.divergence, report.equivalent, report.left) == (None, None, ("trap:portable",))
    assert report.cores[0].stop is Stop.EXIT


def test_a_core_that_was_named_stays(failing: type[Failing]) -> None:
    """A named core that fails is a divergence, and the session reports a missing core."""
    report = compare(program(HELLO), Options(cores=TWO, ram=RAM))
    assert report.equivalent is False
    assert report.divergence is not None
    assert "stop" in report.divergence.differs
    assert len(report.unmet) == 1


def test_absent_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that cannot run is listed with its reason, before or after its engine was made."""
    real = registry.availability

    def availability(name: str) -> Availability:
        if name == "kvm":
            return Availability("kvm", "KVM", False, "there is no /dev/kvm")
        return real(name)

    create = registry.create

    def refuse(name: str) -> object:
        if name == "trap:portable":
            raise UnavailableError("no memory for it")
        return create(name)

    monkeypatch.setattr(session.registry, "availability", availability)
    monkeypatch.setattr(session.registry, "create", refuse)
    monkeypatch.setattr(run_options, "DEFAULT_CORES", (*TWO, "kvm"))
    with closing(Session(program(HELLO), Options(ram=RAM))) as opened:
        assert [(absent.core, absent.reason) for absent in opened.absent] == [
            ("trap:portable", "no memory for it"), ("kvm", "there is no /dev/kvm"),
        ]  # fmt: skip
        assert [machine.core for machine in opened.machines] == ["interpreter"]


def test_equivalent_machines() -> None:
    """Exact and free sessions of equal machines are equivalent, with each core's own end."""
    for free in (False, True):
        report = compare(program(HELLO), Options(cores=TWO, ram=RAM, free=free))
        assert (report.equivalent, report.mode) == (True, "free" if free else "exact")
        assert {core.stop for core in report.cores} == {Stop.EXIT}


def test_after_a_divergence_they_run_on() -> None:
    """With --pure the divergence names the instruction, and both machines run to their ends."""
    source = "mov eax, cs\ncmp eax, 0x10\nje fine\nmov al, 1\nout 0xf4, al\nfine:\n" + EXIT
    report = compare(program(source), Options(cores=TWO, ram=RAM, pure=True))
    assert report.divergence is not None
    assert report.divergence.asm == "mov eax, cs"
    assert [core.exit_status for core in report.cores] == [0, 1]


def test_a_budget_in_free_mode_compares_prefixes() -> None:
    """In a free run cut off by time, a shorter console is no divergence."""
    source = "turn: mov al, 'x'\nout 0xe9, al\njmp turn\n"
    report = compare(program(source), Options(cores=TWO, ram=RAM, free=True, budget=0.05))
    assert report.equivalent is True
    assert {core.stop for core in report.cores} == {Stop.BUDGET}
    assert all(set(core.console) == {"x"} for core in report.cores)


def test_free_mode_compares_what_was_said() -> None:
    """In free mode console, status and stop are compared, and a divergence has no instruction."""
    require("trap:native")
    source = "mov eax, cs\nout 0xe9, al\nout 0xf4, al\n"
    cores = ("interpreter", "trap:native")
    report = compare(program(source), Options(cores=cores, ram=RAM, free=True, pure=True))
    assert report.divergence is not None
    assert report.divergence.asm is None
    assert set(report.divergence.differs) == {"console", "exit_status"}


def test_a_failed_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a machine cannot be made, those made before are closed."""
    closed: list[str] = []
    start = session.start

    def counted(*args: object) -> object:
        if closed:
            raise RuntimeError("no more")
        machine = start(*args)  # type: ignore[arg-type]
        closing_it = machine.close
        closed.append("open")
        machine.close = lambda: (closing_it(), closed.append("closed"))  # type: ignore[method-assign]
        return machine

    monkeypatch.setattr(session, "start", counted)
    with pytest.raises(RuntimeError, match="no more"):
        Session(program(HELLO), Options(cores=TWO, ram=RAM))
    assert closed == ["open", "closed"]
