"""Reports as text and JSON, from values made by hand, for every kind of end and difference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.commands.compare import exit_code
from app.text import reports, reports_json
from cores.engines.base import RingZero
from cores.engines.registry import Availability
from cores.machine.report import CompareReport, CoreReport, Divergence, ExitLine, StepLine
from cores.pc.ram import MIB
from cores.pc.ram_image import RamImage
from cores.pc.stop import Stop
from cores.x86.mode import Mode

RAN = CoreReport(
    core="interpreter", engine="Unicorn 2.1.4", available=True, reason=None, stop=Stop.EXIT,
    exit_status=0, instructions=1000, device_accesses=4, console="hi\n", seconds=0.25,
    registers={"rax": 0xFFFFFFFFFFFFFFFF}, memory=RamImage(2 * MIB, {}),
)  # fmt: skip
TRAP = replace(
    RAN, core="trap:native", engine="ptrace", exits=104,
    exits_by_reason={"io": 4, "exception": 100, "shadow": 7}, delivered=100,
)  # fmt: skip
ABSENT = CoreReport("kvm", "KVM", available=False, reason="/dev/kvm does not exist")
REPORT = CompareReport("x.s", "asm", 0x100000, 12, "0" * 64, "exact", True, None, (RAN, TRAP, ABSENT))
DIVERGENCE = Divergence(
    41, 0x100123, "pushfq", ("rflags", "console"),
    {
        "interpreter": {"rflags": 2, "console": "a" * 60},
        "trap:native": {"rflags": 0x202, "console": None},
    },
)  # fmt: skip


def test_the_table() -> None:
    """One column for each core that ran; the others are listed with their reason."""
    text = reports.compare_report(REPORT)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "kvm cannot run here: /dev/kvm does not exist" in text
    rows = {line[:18].strip(): line[18:].split() for line in text.splitlines()}
    assert rows["instructions"] == ["1,000", "1,000"]
    assert rows["exits to the VMM"] == ["0", "104"]
    assert rows["shadow"] == ["0", "7"]
    assert rows["ran directly"] == ["none", "99.6", "%"]  # 4 of 1000 were emulated


def test_what_text_alone_says() -> None:
    """The text tells which instructions the VMM completed without an exit, and a core's caveat on this
    host; the JSON keys stay."""
    kvm = replace(TRAP, core="kvm", emulated=30, caveat="here it is slow")
    text = reports.compare_report(replace(REPORT, cores=(RAN, kvm)))
    rows = {line[:18].strip(): line[18:].split() for line in text.splitlines()}
    assert rows["emulated, no exit"] == ["0", "30"]
    assert rows["ran directly"] == ["none", "96.6", "%"]
    assert "kvm: here it is slow" in text
    assert set(reports_json.core_report(kvm)) == set(reports_json.core_report(TRAP))
    assert not {"emulated", "caveat"} & set(reports_json.core_report(kvm))


@pytest.mark.parametrize(
    ("ring_zero", "words", "share"),
    [
        (RingZero.GUEST_MODE, "CPU, guest mode", "99.6 %"),
        (RingZero.INTERPRETED, "kernel and CPU", "not counted"),
        (RingZero.UNKNOWN, "KVM", "not counted"),
    ],
)  # fmt: skip
def test_who_executes_on_kvm_is_said_of_this_host(ring_zero: RingZero, words: str, share: str) -> None:
    """Guest mode and a direct share are claimed only where the CPU executes ring 0."""
    kvm = replace(TRAP, core="kvm", engine="KVM", ring_zero=ring_zero)
    text = reports.compare_report(replace(REPORT, cores=(RAN, kvm)))
    rows = {line[:18].strip(): line for line in text.splitlines()}
    assert rows["executed by"].endswith(f" {words}")
    assert rows["shadow"].split() == ["shadow", "0", "not", "counted"]
    assert rows["ran directly"].endswith(share)


def test_four_columns_fit() -> None:
    """Four cores with large numbers still fit 80 columns."""
    cores = tuple(
        replace(TRAP, core=name, instructions=10**9)
        for name in ("interpreter", "trap:native", "trap:portable", "kvm")
    )
    text = reports.compare_report(replace(REPORT, cores=cores))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "1,000,000,000" in text


def test_what_was_led_is_no_step() -> None:
    """The verdict says how much was compared step by step, and how much only at rendezvous."""
    words = " ".join(reports.compare_report(replace(REPORT, stretches=3, led=900)).split())
    assert "at each of 100 steps, after 3 stretches at full speed (900 instructions), and" in words


def test_a_divergence_in_words_and_json() -> None:
    """A divergence is reported with its instruction, address, difference and each core's value."""
    report = replace(REPORT, equivalent=False, divergence=DIVERGENCE)
    text = reports.compare_report(report)
    assert "instruction 42, `pushfq` at 0x100123" in " ".join(text.split())
    assert "0x202" in text
    as_json = reports_json.compare_report(report)["divergence"]
    assert as_json == {
        "instruction": 41, "rip": "0x100123", "asm": "pushfq", "differs": ["rflags", "console"],
        "values": {
            "interpreter": {"rflags": "0x2", "console": "a" * 60},
            "trap:native": {"rflags": "0x202", "console": None},
        },
    }  # fmt: skip


def test_stop_and_exit_status_are_no_hex() -> None:
    """An exit status is printed as a decimal number, a stop as a word."""
    values = {"a": {"exit_status": 5, "stop": Stop.EXIT}, "b": {"exit_status": None, "stop": "budget"}}
    divergence = Divergence(0, 0, None, ("exit_status", "stop"), values)
    report = reports_json.compare_report(replace(REPORT, equivalent=False, divergence=divergence))
    assert report["divergence"]["values"] == {
        "a": {"exit_status": 5, "stop": "exit"},
        "b": {"exit_status": None, "stop": "budget"},
    }


def test_an_absent_core_in_json() -> None:
    """An absent core has a reason, and null, 0 or an empty value in all other keys."""
    fields = reports_json.core_report(ABSENT)
    assert (fields["available"], fields["reason"]) == (False, "/dev/kvm does not exist")
    nulls = ("stop", "exit_status", "instructions", "screen", "registers", "cpu_mode", "memory_sha256")
    assert all(fields[name] is None for name in nulls)
    assert (fields["exits"], fields["exits_by_reason"], fields["console"]) == (0, {}, "")


def test_exit_codes() -> None:
    """Exit codes: 0 equal or nothing to compare, 1 divergence, 3 a named core is missing or none
    runs."""
    assert exit_code(REPORT) == 0
    assert exit_code(replace(REPORT, equivalent=None)) == 0
    assert exit_code(replace(REPORT, equivalent=False)) == 1
    assert exit_code(replace(REPORT, unmet=("kvm: no",))) == 3
    assert exit_code(replace(REPORT, equivalent=None, cores=(ABSENT,))) == 3


def test_a_guest_cannot_drive_the_terminal() -> None:
    """Control characters of a guest's console are shown, not sent."""
    report = replace(REPORT, cores=(replace(RAN, console="\x1b[2Jx\ny\x9b"),), equivalent=None)
    text = reports.compare_report(report)
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "\\x1b[2Jx\n  y\\x9b" in text


def test_different_consoles_are_all_shown() -> None:
    """Consoles are printed once where they are equal, otherwise one for each core."""
    report = replace(REPORT, cores=(RAN, replace(TRAP, console="ho\n")))
    assert "console of trap:native:\n  ho" in reports.compare_report(report)
    assert reports.compare_report(REPORT).count("\nconsole:\n") == 1


def test_free_running_counts_nothing() -> None:
    """Where the CPU ran on its own, the count is reported as missing, not as zero."""
    report = replace(REPORT, mode="free", cores=(RAN, replace(TRAP, instructions=None)))
    text = reports.compare_report(report)
    assert "not counted" in text
    assert reports_json.compare_report(report)["cores"][1]["instructions"] is None


def test_trace_lines() -> None:
    """Exits and steps are rendered as text and as JSON."""
    exit = ExitLine(
        5, 0x100000, b"\xe6\xe9", "out 0xe9, al", Mode.PROTECTED_16, "io", "console '\x1b'", "emulated",
        0, 21000, 9000, "guest.s:3",
    )  # fmt: skip
    assert "\x1b" not in reports.trace_line(exit)
    line = reports_json.trace_line(exit)
    assert (line["bytes"], line["cpu_mode"], line["source"]) == ("e6e9", "prot16", "guest.s:3")
    step = StepLine(5, 0x100000, b"\x90", "nop", {"rip": 0x100001, "mem:0x5000": b"\1\2"})
    assert reports_json.trace_line(step)["changed"] == {"rip": "0x100001", "mem:0x5000": "0102"}
    assert "mem:0x5000=0102" in reports.trace_line(step)


def test_abilities() -> None:
    """`doctor` lists the abilities that a core lacks, and the consequence of each."""
    kvm = Availability("kvm", "KVM", True, None, (("int n in ring 0", False, "bridged"),))
    assert "lacks int n in ring 0: bridged" in reports.availabilities([kvm])
