"""What is said about an exit is said of that exit."""

from __future__ import annotations

import pytest

from app.text.narration import CPU, GUEST, HOST, SEEN_COMING, card, dialogue, meanwhile, microseconds
from cores.vmm.trace import ExitEvent
from cores.x86.isa.instruction import Reason

EXAMPLES = {
    Reason.IO: "e6e9", Reason.MMIO: "8807", Reason.HLT: "f4", Reason.CR: "0f22d8", Reason.MSR: "0f30",
    Reason.DESCRIPTOR: "0f0110", Reason.FLAGS: "fa", Reason.SEGMENT: "8ed8", Reason.INT: "cd80",
    Reason.IRET: "48cf", Reason.SYSCALL: "0f05", Reason.SYSRET: "480f07", Reason.CPUID: "0fa2",
    Reason.TSC: "0f31", Reason.INVLPG: "0f0138", Reason.STATE: "0f09", Reason.EXCEPTION: "0f0b",
    Reason.IRQ: "", Reason.HYPERCALL: "0f01c1", Reason.SHUTDOWN: "0f0b", Reason.SHADOW: "8b07",
    Reason.SCAN: "90",
}  # fmt: skip


def event(reason: Reason, code: str, handled: str = "the CPU refused it: #GP") -> ExitEvent:
    return ExitEvent(
        7, 0x100000, bytes.fromhex(code), reason, "what was done", handled, 0, 21_000, 9_000
    )


@pytest.mark.parametrize("core", ["trap:native", "trap:portable", "kvm"])
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_words(reason: Reason, core: str) -> None:
    """On every core the CPU and the host speak; the guest too, where it gave an instruction."""
    lines = dialogue(event(reason, EXAMPLES[reason]), core)
    speakers = [line.speaker for line in lines]
    assert speakers[-2:] == [CPU, HOST]
    assert (GUEST in speakers) == bool(EXAMPLES[reason])
    assert all(line.text and len(line.text) < 110 for line in lines)
    facts = dict(card(event(reason, EXAMPLES[reason]), core, 1).facts)
    assert facts["bytes"].replace(" ", "") == EXAMPLES[reason] or facts["bytes"] == "none"
    assert facts["rule"]


def test_the_cpu_did_not_speak_of_what_it_was_not_asked() -> None:
    """A silent instruction never trapped: the line is in brackets, and the host says it read ahead."""
    lines = dialogue(event(Reason.FLAGS, "9c", SEEN_COMING[0]), "trap:native")
    assert lines[1].text.startswith("(was not asked")
    assert "read ahead" in lines[2].text


def test_costs() -> None:
    """Microseconds with their unit; instructions to two digits, never more than the clock allows."""
    assert microseconds(21_000) == "21.0 µs"
    assert microseconds(1_234_567) == "1,235 µs"
    count = meanwhile(21_000)
    assert str(count).rstrip("0").isdigit()
    assert len(str(count).rstrip("0")) <= 2


def test_an_uncounted_exit_has_no_number() -> None:
    """Where nothing counted the instructions, the card gives no figure for them."""
    uncounted = event(Reason.IO, "e6e9")._replace(n=None)
    (where,) = (text for name, text in card(uncounted, "kvm", 5).facts if name == "where")
    assert "instructions" not in where
