"""The narration of an exit says only what holds for that exit."""

from __future__ import annotations

import pytest

from app.text import narration
from app.text.narration import CPU, GUEST, HOST, SEEN_COMING, card, dialogue, meanwhile, microseconds
from cores.engines.base import RingZero
from cores.machine.report import MachineSnapshot
from cores.vmm.trace import ExitEvent
from cores.x86.isa.instruction import Reason

EXAMPLES = {
    Reason.IO: "e6e9", Reason.MMIO: "8807", Reason.HLT: "f4", Reason.CR: "0f22d8", Reason.MSR: "0f30",
    Reason.DESCRIPTOR: "0f0110", Reason.FLAGS: "fa", Reason.SEGMENT: "8ed8", Reason.INT: "cd80",
    Reason.IRET: "48cf", Reason.SYSCALL: "0f05", Reason.SYSRET: "480f07", Reason.CPUID: "0fa2",
    Reason.TSC: "0f31", Reason.INVLPG: "0f0138", Reason.STATE: "0f09", Reason.EXCEPTION: "0f0b",
    Reason.IRQ: "", Reason.HYPERCALL: "0f01c1", Reason.SHUTDOWN: "0f0b", Reason.SHADOW: "8b07",
    Reason.SCAN: "90", Reason.CALLOUT: "9c",
}  # fmt: skip


def event(reason: Reason, code: str, handled: str = "the CPU refused it: #GP") -> ExitEvent:
    return ExitEvent(
        7, 0x100000, bytes.fromhex(code), reason, "what was done", handled, 0, 21_000, 9_000
    )


KINDS = {
    "trap:native": RingZero.DEPRIVILEGED, "trap:portable": RingZero.DEPRIVILEGED,
    "kvm": RingZero.GUEST_MODE, "kvm without hardware": RingZero.INTERPRETED,
    "kvm of an unknown kind": RingZero.UNKNOWN,
}  # fmt: skip


def machine(kind: str) -> MachineSnapshot:
    """A machine with the two values that narration reads: the core's name and the way ring 0 is
    executed."""
    return MachineSnapshot(
        core=kind.partition(" ")[0], engine="", label="", where="", registers={}, changed=frozenset(),
        ring=0, real_ring=None, instructions=None, exits=0, exits_by_reason={}, device_accesses=0,
        bridged=0, console="", screen=None, stop=None, reason="", exit_status=None, code=(), events=(),
        notes=(), ring_zero=KINDS[kind],
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_words(reason: Reason, kind: str) -> None:
    """Every reason has text for the CPU and the host on every core, and for the guest where it gave an
    instruction."""
    lines = dialogue(event(reason, EXAMPLES[reason]), machine(kind))
    speakers = [line.speaker for line in lines]
    assert speakers[-2:] == [CPU, HOST]
    assert (GUEST in speakers) == bool(EXAMPLES[reason])
    assert all(line.text and len(line.text) < 110 for line in lines)
    facts = dict(card(event(reason, EXAMPLES[reason]), machine(kind), 1).facts)
    assert facts["bytes"].replace(" ", "") == EXAMPLES[reason] or facts["bytes"] == "none"
    assert facts["rule"]


def test_the_cpu_did_not_speak_of_what_it_was_not_asked() -> None:
    """For a silent instruction, which never trapped, the CPU's line is in brackets and the host's line
    says that it read ahead."""
    lines = dialogue(event(Reason.FLAGS, "9c", SEEN_COMING[0]), machine("trap:native"))
    assert lines[1].text.startswith("(was not asked")
    assert "read ahead" in lines[2].text


def test_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs have units: microseconds, and cycles with two digits, as precise as the clock."""
    assert microseconds(21_000) == "21.0 µs"
    assert microseconds(1_234_567) == "1,235 µs"
    monkeypatch.setattr(narration, "cycles_per_nanosecond", lambda: 2.4)
    assert meanwhile(21_000) == 50_000


def test_an_unknown_clock_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the host does not tell its clock rate, a time is not converted to cycles."""
    monkeypatch.setattr(narration, "cycles_per_nanosecond", lambda: None)
    assert meanwhile(21_000) is None
    facts = dict(card(event(Reason.IO, "e6e9"), machine("trap:native"), 1).facts)
    assert "cycles" not in facts["cost"]
    assert all("cycles" not in line.aside for line in dialogue(*seen("trap:native")))


def seen(kind: str, handled: str = "the CPU refused it: #GP") -> tuple[ExitEvent, MachineSnapshot]:
    return event(Reason.IO, "e6e9", handled), machine(kind)


def test_the_whole_exit_is_told_with_the_vmms_part() -> None:
    """The cost of an exit is the time from leaving to entering the guest, with the VMM's part beside
    it."""
    told = dict(card(*seen("trap:native"), 1).facts)["cost"]
    assert "21.0 µs from leaving the guest to entering it again" in told
    assert "9.0 µs" in told
    assert "21.0 µs, of which the VMM 9.0 µs" in dialogue(*seen("trap:native"))[-1].aside


def test_an_uncounted_exit_says_so() -> None:
    """Where instructions were not counted, the card says so and gives no figure."""
    uncounted = event(Reason.IO, "e6e9")._replace(n=None)
    where = dict(card(uncounted, machine("kvm"), 5).facts)["where"]
    assert where.endswith("instructions not counted")


def test_guest_mode_is_spoken_of_only_where_there_is_one() -> None:
    """On a KVM without hardware support, and in exact mode, the narration does not mention guest
    mode."""
    assert "left guest mode" in dialogue(*seen("kvm", "left to the VMM"))[1].text
    for kind in ("kvm without hardware", "kvm of an unknown kind"):
        assert "guest mode" not in dialogue(*seen(kind, "left to the VMM"))[1].text
    assert "exact mode" in dialogue(*seen("kvm", SEEN_COMING[0]))[1].text


def test_the_rule_of_a_kvm_exit_is_kvms() -> None:
    """For KVM, OUT is described as left to the VMM, not as refused in ring 3."""
    rule = dict(card(*seen("kvm", "left to the VMM"), 1).facts)["rule"]
    assert "An exit to the VMM" in rule
    assert "#GP" not in rule
