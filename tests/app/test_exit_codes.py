"""The exit code of `compare` when a core stops with an error (contract.md, Exit codes), with engines
that fail on purpose, a killed vCPU process, and guests that this host's KVM cannot run."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from machine_lab import needs_assembler, require

from app.main import main
from cores.engines import registry
from cores.engines.base import Engine, Exit, Failed
from cores.engines.portable.engine import PortableTrapEngine
from cores.lockstep import options as run_options
from cores.lockstep import session
from cores.machine.machine import Machine
from cores.x86.virtual_cpu import VirtualCpu

pytestmark = needs_assembler

EXIT_3 = "nop\nnop\nnop\nmov al, 3\nout 0xf4, al\n"
SSE = "addps xmm0, xmm1\n" + EXIT_3
RETURN_TO_A_TASK = bytes.fromhex("0f20c0 0c01 0f22c0 9c 58 0d0040 50 9d cf")
"""A boot sector: protected mode, then IRET with NT set, which is a task switch (SDM vol. 3, 8.3)."""
WHY = "the host's patience is over"

THREE = ("interpreter", "trap:portable", "trap:native")


class Failing(PortableTrapEngine):
    """An engine that fails at its third step, by the limit that ``limit`` names, and at each free
    run."""

    limit = ""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def step(self, cpu: VirtualCpu) -> Exit:
        self.steps += 1
        return super().step(cpu) if self.steps < 3 else Failed(WHY, self.limit)

    def run(self, cpu: VirtualCpu, budget: int | None = None) -> Exit:
        return Failed(WHY, self.limit)


class Limited(Failing):
    limit = "single step in ring 3, through faults"


@pytest.fixture
def guest(tmp_path: Path) -> Callable[[str], str]:
    def written(source: str) -> str:
        path = tmp_path / "guest.s"
        path.write_text(source)
        return str(path)

    return written


def failing(monkeypatch: pytest.MonkeyPatch, engine: type[Failing]) -> None:
    """Replaces trap:portable by ``engine``, and makes the default cores three that run anywhere."""
    create = registry.create
    monkeypatch.setattr(
        session.registry, "create", lambda name: engine() if name == "trap:portable" else create(name)
    )
    if registry.availability("trap:native").available:
        monkeypatch.setattr(
            run_options, "DEFAULT_CORES", ("interpreter", "trap:portable", "trap:native")
        )
    else:
        pytest.skip(f"trap:native: {registry.availability('trap:native').reason}")


def equivalent_line(text: str) -> str:
    return next(line for line in text.splitlines() if "Equivalent" in line)


@pytest.mark.parametrize("mode", [[], ["--free"]], ids=["exact", "free"])
def test_an_error_that_doctor_does_not_list(
    mode: list[str], guest: Callable[[str], str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """An unnamed core that fails gives exit code 3; the line "Equivalent" names it as left out."""
    failing(monkeypatch, Failing)
    assert main(["compare", guest(EXIT_3), *mode]) == 3
    out, err = capsys.readouterr()
    assert "Equivalent without trap:portable (stopped with an error)" in equivalent_line(out)
    assert err == f"ringscope compare: trap:portable: {WHY}\n"
    assert main(["compare", guest(EXIT_3), *mode, "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["equivalent"] is True
    assert [core["stop"] for core in report["cores"]] == ["exit", "error", "exit"]


@pytest.mark.parametrize("mode", [[], ["--free"]], ids=["exact", "free"])
def test_a_limit_that_doctor_lists(
    mode: list[str], guest: Callable[[str], str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """An unnamed core that meets a limit known to doctor gives exit code 0; the line "Equivalent" names
    it as left out."""
    failing(monkeypatch, Limited)
    assert main(["compare", guest(EXIT_3), *mode]) == 0
    out, err = capsys.readouterr()
    assert "Equivalent without trap:portable (a limit of this host)" in equivalent_line(out)
    assert err == ""


@pytest.mark.parametrize("engine", [Failing, Limited])
def test_a_named_core_that_fails(
    engine: type[Failing], guest: Callable[[str], str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A named core that fails gives exit code 3 for every cause, and no claim of equivalence."""
    failing(monkeypatch, engine)
    assert main(["compare", guest(EXIT_3), "--cores", "interpreter,trap:portable"]) == 3
    out, err = capsys.readouterr()
    assert "Equivalent" not in out
    assert err == f"ringscope compare: trap:portable: {WHY}\n"


@pytest.mark.parametrize("named", [[], ["--cores", "interpreter,trap:portable"]], ids=["all", "named"])
@pytest.mark.parametrize("mode", [[], ["--free"]], ids=["exact", "free"])
def test_every_core_refuses_the_guest(
    mode: list[str], named: list[str], guest: Callable[[str], str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Where every core fails, the exit code is 3 and equivalent is null: equal errors are not
    compared."""
    create = registry.create

    def broken(name: str) -> Engine:
        engine = create(name)
        for way in ("step", "run"):
            monkeypatch.setattr(engine, way, lambda *_: Failed(WHY, "ring 0 runs on the CPU"))
        return engine

    monkeypatch.setattr(session.registry, "create", broken)
    monkeypatch.setattr(run_options, "DEFAULT_CORES", ("interpreter", "trap:portable"))
    assert main(["compare", guest(EXIT_3), *mode, *named, "--json"]) == 3
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["equivalent"], report["divergence"]) == (None, None)
    assert WHY in err


@pytest.mark.parametrize("mode", [[], ["--free"]], ids=["exact", "free"])
def test_a_platform_that_refuses(
    mode: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A guest that uses what the platform lacks: equivalent is null, and each core gives the reason."""
    disk = tmp_path / "task.img"
    disk.write_bytes(RETURN_TO_A_TASK.ljust(510, b"\0") + b"\x55\xaa")
    cores = ["--cores", "interpreter,trap:portable"]
    assert main(["compare", str(disk), *cores, *mode, "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["equivalent"] is None
    assert {core["stop"] for core in report["cores"]} == {"error"}
    assert all("does not switch tasks in hardware" in core["reason"] for core in report["cores"])


@pytest.mark.parametrize("mode", [[], ["--free"]], ids=["exact", "free"])
def test_a_killed_vcpu_process(
    mode: list[str], guest: Callable[[str], str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A killed process of an unnamed core gives exit code 3, reported in the same line."""
    require("trap:native")
    start = session.start

    def killed(*arguments: Any) -> Machine:
        machine = start(*arguments)
        if machine.core == "trap:native":
            found = re.search(r"process (\d+)", machine.engine.where())
            assert found is not None
            os.kill(int(found[1]), signal.SIGKILL)
        return machine

    monkeypatch.setattr(session, "start", killed)
    monkeypatch.setattr(run_options, "DEFAULT_CORES", THREE)
    assert main(["compare", guest(EXIT_3), *mode]) == 3
    out, err = capsys.readouterr()
    assert "Equivalent without trap:native (stopped with an error)" in equivalent_line(out)
    assert "trap:native: the vCPU process was killed (signal 9)" in err


@pytest.mark.parametrize("mode", [[], ["--free"]], ids=["exact", "free"])
def test_a_guest_beyond_this_kvm(
    mode: list[str], guest: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """SSE in ring 0 where KVM lacks it: exit code 0 if kvm was not named, 3 if it was; doctor lists the
    limit."""
    require("kvm")
    from cores.engines.kvm.capabilities import interprets_kernel

    if not interprets_kernel():
        pytest.skip("this host's KVM runs ring 0 on the CPU, which has SSE")
    assert main(["compare", guest(SSE), *mode]) == 0
    assert "Equivalent without kvm (a limit of this host)" in equivalent_line(capsys.readouterr().out)
    assert main(["compare", guest(SSE), *mode, "--cores", "interpreter,kvm"]) == 3
    assert "Equivalent" not in capsys.readouterr().out


def test_limits_are_doctors() -> None:
    """Each limit that KVM's errors name is an ability in doctor's list."""
    require("kvm")
    from cores.engines.kvm import exit_errors
    from cores.engines.kvm.capabilities import abilities

    limits = {
        exit_errors.RING_0_DIRECT, exit_errors.STEPS_KERNEL, exit_errors.STEPS_USER,
        exit_errors.PAGES_OUTSIDE, exit_errors.GIBIBYTE_PAGES,
    }  # fmt: skip
    assert limits <= {ability.name for ability in abilities()}


def test_no_exact_mode(guest: Callable[[str], str], monkeypatch: pytest.MonkeyPatch,
                       capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """On a KVM that cannot single-step, exact mode stops kvm before its first instruction with a reason
    that doctor lists."""
    require("kvm")
    from cores.engines.kvm import capabilities

    monkeypatch.setattr(capabilities, "steps_kernel", lambda: False)
    assert main(["compare", guest(EXIT_3)]) == 0
    out = capsys.readouterr().out
    assert "Equivalent without kvm (a limit of this host)" in equivalent_line(out)
    assert "does not stop after each instruction" in out
