"""The exit reason of each sensitive instruction, on which lessons and scripts rely."""

from __future__ import annotations

import pytest

from cores.x86.isa.decoder import decode
from cores.x86.isa.instruction import Reason, Sensitivity

REASONS = {
    Reason.IO: ("e4 60", "e6 e9", "ec", "ef", "6c", "f3 6f"),
    Reason.HLT: ("f4",),
    Reason.CR: ("0f 20 d8", "0f 22 d8", "0f 01 e0", "0f 01 f0", "0f 06"),
    Reason.MSR: ("0f 32", "0f 30", "0f 01 f8", "f3 0f ae c0", "f3 48 0f ae d8"),
    Reason.DESCRIPTOR: ("0f 01 10", "0f 01 18", "0f 00 d0", "0f 00 d8", "0f 01 00", "0f 01 08",
                        "0f 00 c0", "0f 00 c8", "0f 02 c0", "0f 03 c0", "0f 00 e0", "0f 00 e8"),
    Reason.FLAGS: ("fa", "fb", "9c", "9d"),
    Reason.SEGMENT: ("8c d8", "8e d8", "0f a0", "0f a1", "ff 18", "ff 28", "48 cb"),
    Reason.INT: ("cd 80",),
    Reason.IRET: ("48 cf",),
    Reason.SYSCALL: ("0f 05",),
    Reason.SYSRET: ("48 0f 07",),
    Reason.CPUID: ("0f a2",),
    Reason.TSC: ("0f 31", "0f 01 f9"),
    Reason.INVLPG: ("0f 01 38",),
    Reason.STATE: ("0f 09", "0f 08", "0f 01 d0"),
    Reason.HYPERCALL: ("0f 01 c1", "0f 01 d9"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "reason"), [(code, reason) for reason, codes in REASONS.items() for code in codes]
)
def test_reason(code: str, reason: Reason) -> None:
    """An instruction of each form has its word in exits_by_reason."""
    insn = decode(bytes.fromhex(code).ljust(15, b"\x90"))
    assert insn.reason is reason
    assert insn.sensitivity is not Sensitivity.ORDINARY
