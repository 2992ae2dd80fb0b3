"""Fixtures of several files here."""

from __future__ import annotations

import pytest

from cores.lockstep import leader
from cores.lockstep.leader import Lead


@pytest.fixture
def led(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The instructions of each stretch that machines have been led over (cores/lockstep/leader.py)."""
    stretches: list[int] = []
    go = Lead._go

    def noted(lead: Lead, limit: int) -> None:
        before = lead.led
        go(lead, limit)
        stretches.append(lead.led - before)

    monkeypatch.setattr(Lead, "_go", noted)
    monkeypatch.setattr(leader, "WAIT_NS", 30_000_000_000)  # a busy host must not lose a follower
    return stretches
