"""The direct share: the same number in report and snapshot, without the VMM's part."""

from __future__ import annotations

from dataclasses import replace

import pytest
from machine_lab import booted, needs_assembler, run

from app.tui.lanes.header import without_vmm
from cores.engines.base import RingZero
from cores.inspection.snapshot import take
from cores.machine.report import CoreReport, direct_share, percent
from cores.time_travel.history import History
from lessons.play.values import machine_value

REPORT = CoreReport("trap:native", "ptrace", True, None, instructions=1000, exits=100)

MOSTLY_THE_VMM = """
    mov ax, 0x18
    mov ds, ax          # stepping KVM, the VMM does this
    mov rax, cr3
    mov cr3, rax        # and these two
    pushfq              # and these
    popfq
    cli                 # the CPU does these
    sidt [rsp - 16]
    mov ecx, 30
turn:
    dec ecx
    jnz turn
    out 0xe9, al        # an exit
    out 0xf4, al
"""


def test_what_counts_as_run_directly() -> None:
    """All instructions count but those completed by exits, bridged, or emulated; deliveries are no
    instructions."""
    assert direct_share(REPORT) == 0.9
    assert direct_share(replace(REPORT, delivered=40)) == pytest.approx(0.94)
    assert direct_share(replace(REPORT, bridged=200, emulated=300)) == pytest.approx(0.4)
    assert direct_share(replace(REPORT, exits=2000)) == 0


def test_machines_without_a_share() -> None:
    """An emulator, an unstarted machine and an uncounted one have no direct share."""
    assert direct_share(replace(REPORT, core="interpreter")) is None
    assert direct_share(replace(REPORT, instructions=0)) is None
    assert direct_share(replace(REPORT, instructions=None)) is None


def test_a_share_in_words() -> None:
    """Only a whole hundred percent is called all."""
    assert [percent(s) for s in (0, 0.8333, 0.9996, 1)] == ["0.0 %", "83.3 %", "99.960 %", "100 %"]


@needs_assembler
@pytest.mark.parametrize(("core", "away"), [("trap:native", 9), ("trap:portable", 9), ("kvm", 7)])
def test_compare_header_and_lessons_agree(core: str, away: int) -> None:
    """compare, header and lessons show one number on each core; on KVM it leaves out what the VMM
    emulated without an exit."""
    with booted(core, MOSTLY_THE_VMM) as machine:
        run(machine)
        report, snapshot = machine.report(), take(machine, machine.cpu.state())
        assert report.instructions == 71
        share = direct_share(report)
        assert share in (None, without_vmm(snapshot))
        if report.ring_zero is RingZero.INTERPRETED:
            assert share is None
            assert machine_value(snapshot, ["direct"]) is None
        else:
            assert share == pytest.approx(1 - away / 71)
            assert machine_value(snapshot, ["direct"]) == 100 * share
        assert report.emulated == (5 if core == "kvm" else 0)


@needs_assembler
def test_going_back_takes_it_back() -> None:
    """An instruction that the VMM emulated on KVM is counted once, however often it is executed
    again."""
    with booted("kvm", MOSTLY_THE_VMM) as machine:
        history = History(machine)
        while machine.stop is None:
            history.step()
        history.seek(3)
        assert machine.vmm.emulated == 2
        while machine.stop is None:
            history.step()
        assert machine.vmm.emulated == 5


BREAKPOINTS = """
    lea rax, [rip + handler]
    mov rbx, 0x20000
    mov [rbx + 48], ax
    shr rax, 16
    mov [rbx + 54], ax
    mov dword ptr [rbx + 50], 0x8e000010
    mov word ptr [rsp - 16], 0xfff
    mov [rsp - 14], rbx
    lidt [rsp - 16]     # 1 of 11
    int3                # 2: completed, though its exit is an exception
    mov [0], al         # not completed: a fault, for which there is no handler
handler:
    iretq               # 3
"""


@needs_assembler
@pytest.mark.parametrize("core", ["trap:native", "trap:portable"])
def test_a_breakpoint_is_an_instruction_and_a_fault_is_none(core: str) -> None:
    """Both are exits for an exception; only the breakpoint has completed an instruction."""
    with booted(core, BREAKPOINTS) as machine:
        run(machine)
        report = machine.report()
        assert report.exits_by_reason["exception"] == 1
        assert report.exits_by_reason["shutdown"] == 1
        assert report.instructions == 11
        assert direct_share(report) == pytest.approx(1 - 3 / 11)
