"""Marks of instructions: whether one leaves the guest, runs directly, or would not trap.

The screen draws a mark as a symbol, lessons as text print one of their own; both take it from here.
"""

from __future__ import annotations

from enum import Enum

from cores.engines.base import RingZero
from cores.machine.report import CodeLine, MachineSnapshot

_LEAVES_KVM = ("in ", "ins", "out ", "outs", "hlt")
"""Beginnings of instructions for which KVM returns to user space."""


class Mark(Enum):
    """The effect of an instruction on the machine that executes it."""

    NONE = "none"
    """Nothing to tell: data, or an emulator's, which never leaves the guest."""
    LEAVES = "leaves the guest"
    SILENT = "would not trap"
    """Sensitive, and executed without a fault at ring 3: the VMM has to find it before it runs."""
    DIRECT = "runs directly"
    INTERPRETED = "interpreted by KVM"
    """Executed by the host's kernel, for want of hardware support; no exit to the VMM."""


def mark(m: MachineSnapshot, line: CodeLine) -> Mark:
    """The mark of a line of the code. On KVM without hardware support that of a line executed in the
    ring in which the guest is now."""
    if m.core == "interpreter" or (line.kind == "data" and not line.exits):
        return Mark.NONE
    if line.exits and line.kind != "silent":  # an ordinary one too, when it met a device or a fault
        return Mark.LEAVES
    if line.kind == "data":
        return Mark.NONE
    if m.core == "kvm":
        if line.text.removeprefix("rep ").startswith(_LEAVES_KVM):
            return Mark.LEAVES
        hardware = m.ring_zero is RingZero.GUEST_MODE
        return Mark.DIRECT if hardware or m.ring == 3 else Mark.INTERPRETED
    match line.kind:
        case "silent":
            return Mark.SILENT
        case "privileged" | "absent":
            return Mark.LEAVES
        case _:
            return Mark.DIRECT
