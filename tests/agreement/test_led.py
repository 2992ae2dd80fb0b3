"""Guests that are led (run at full speed between rendezvous) have the verdict, counts and exits of
stepped ones."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest
from agreement_lab import BUDGET, GUESTS, cores, named, program, skip_unless_assembled

from cores.lockstep import leader as lead
from cores.lockstep.leader import Lead
from cores.lockstep.session import Session
from cores.machine.report import CoreReport
from tests.sampling import sampled

pytestmark = skip_unless_assembled()

UNDEFINED = "flags_of_locked_instructions"
"""Prints flags that are undefined: a step settles them (cores/x86/isa/undefined_results.py), a stretch
cannot."""


def compared(guest: str, names: list[str]) -> list[CoreReport]:
    """The report of each core's machine; fails at a divergence."""
    options = replace(GUESTS[guest].run_options, cores=tuple(names), budget=BUDGET)
    with closing(Session(program(guest), options)) as session:
        session.run_to_end()
        assert session.divergence is None
        return [machine.report() for machine in session.machines]


def told(report: CoreReport) -> tuple[object, ...]:
    """The parts of a report that must agree. Undefined flags may differ, in registers and in RAM."""
    return (
        report.stop, report.exit_status, report.instructions, report.exits, report.exits_by_reason,
        report.device_accesses, report.console, report.screen,
    )  # fmt: skip


@pytest.mark.parametrize(
    "guest", sampled((g for g in named(free=False) if g.values[0] != UNDEFINED), 8)
)
def test_led_as_stepped(guest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is led from its first instruction equals the stepped run, however short the
    stretches."""
    names = [core for core in cores(GUESTS[guest]) if core != "kvm"]
    monkeypatch.setattr(lead, "WARM_UP", 0)
    monkeypatch.setattr(lead, "SHORTEST", 1)
    led = compared(guest, names)
    monkeypatch.setattr(Lead, "may_lead", lambda machines: False)
    stepped = compared(guest, names)
    assert [told(report) for report in led] == [told(report) for report in stepped]
