"""16- and 32-bit code: each guest of modes/ on all cores in lockstep, and free."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from agreement_lab import SECONDS, free, lockstep, skip_unless_assembled
from modes_lab import GUESTS, OPTIONS, REFUSED, legacy_cores

from cores.pc.stop import Stop
from cores.programs.loader import load_program

pytestmark = skip_unless_assembled()


@pytest.mark.parametrize("name", GUESTS)
def test_exact(name: str) -> None:
    """All cores have one state after each instruction, in every mode."""
    guest = GUESTS[name]
    for outcome in lockstep(guest.program, OPTIONS, legacy_cores()):
        assert outcome.console.decode() == guest.console, outcome.reason
        assert outcome.stop is Stop.EXIT, outcome.reason


@pytest.mark.parametrize("name", GUESTS)
def test_free(name: str) -> None:
    """In free mode every core ends with the same console, where no limit is met that only the VMM
    checks."""
    guest = GUESTS[name]
    for core in legacy_cores():
        outcome = free(guest.program, OPTIONS, core, SECONDS)
        assert outcome.stop is Stop.EXIT, f"{core}: {outcome.reason}"
        assert outcome.console.decode() == guest.expected(core), core


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """What the platform leaves out stops the guest in a sentence; KVM has some of it."""
    guest = REFUSED[name]
    here = [core for core in legacy_cores() if core != "kvm"]
    outcomes = lockstep(guest.program, OPTIONS, here)
    for outcome in (*outcomes, *(free(guest.program, OPTIONS, core, 20.0) for core in here)):
        assert outcome.stop is Stop.ERROR, outcome.core
        assert guest.refused in outcome.reason, outcome.core
        assert re.search("at (guest address )?0x1[0-9a-f]{5}", outcome.reason), outcome.reason


@pytest.mark.parametrize("core", legacy_cores())
def test_a_boot_sector_runs(core: str, tmp_path: Path) -> None:
    """A guest that begins in real mode, where the world switch is measured, too, runs on each core."""
    sector = bytes.fromhex("b041 e6e9 b000 e6f4 f4").ljust(510, b"\0") + b"\x55\xaa"
    (tmp_path / "boot.img").write_bytes(sector)
    outcome = free(load_program(str(tmp_path / "boot.img")), OPTIONS, core, SECONDS)
    assert (outcome.stop, outcome.console) == (Stop.EXIT, b"A"), outcome.reason


@pytest.mark.parametrize("core", legacy_cores())
def test_a_bios_is_missed(core: str, tmp_path: Path) -> None:
    """A guest that asks for a BIOS stops, running freely, too, and is told which service it wanted."""
    sector = bytes.fromhex("b041 e6e9 b40e cd10 b000 e6f4 f4").ljust(510, b"\0") + b"\x55\xaa"
    (tmp_path / "boot.img").write_bytes(sector)
    outcome = free(load_program(str(tmp_path / "boot.img")), OPTIONS, core, SECONDS)
    assert (outcome.stop, outcome.console) == (Stop.ERROR, b"A")
    assert "video service (int 0x10, AH = 0xe)" in outcome.reason
    assert "int 0x10 at 0x7c06" in outcome.reason
