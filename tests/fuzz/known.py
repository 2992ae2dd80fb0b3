"""The one table of divergences that stand: what differs, why, and what the architecture says.

A failing guest whose divergence is listed here is no failure. Everything else is a bug.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cores.report import Divergence


@dataclass(frozen=True)
class Known:
    """what: the divergence. why: what causes it. reference: what the architecture says.
    applies: recognises it; None: it shows where lockstep does not look (free mode, KVM, guests)."""

    what: str
    why: str
    reference: str
    applies: Callable[[Divergence], bool] | None = None


def _after(*mnemonics: str) -> Callable[[Divergence], bool]:
    return lambda d: d.asm is not None and d.asm.split()[0] in mnemonics


TABLE: tuple[Known, ...] = (
    Known(
        "Near branches, RET and ENTER with the prefix 66",
        "Unicorn computes with 16 bits, as AMD's CPUs do; Intel's ignore the prefix before near branches.",
        "SDM vol. 2, appendix A.2 (f64); APM vol. 3, 1.2.4: CPUs differ. No assembler writes it.",
    ),
    Known(
        "x87: no stack faults, C1 and DE never set, unmasked exceptions not raised",
        "Unicorn's x87 does not look at the tags, nor tell which way it rounded.",
        "SDM vol. 1, 8.5.1.1 (stack), 8.1.3 (C1), 8.7 (#MF).",
    ),
    Known(
        "MXCSR.DE is never set, and unmasked SSE exceptions raise no #XM",
        "Unicorn's floating point does not report denormal operands, and never faults.",
        "SDM vol. 1, 11.5.2.2 (DE), 11.5.4 (#XM).",
    ),
    Known(
        "FISTTP to 16 bits of a number too large: IE is not set",
        "Unicorn converts to 32 bits first.",
        "SDM vol. 2, FISTTP.",
        _after("fisttp"),
    ),
    Known(
        "Free mode on Unicorn: no #GP for misaligned SSE operands, no #AC, and a near branch to a "
        "non-canonical address faults at its target",
        "Nothing is decoded ahead there; exact mode checks before the step.",
        "SDM vol. 1, 10.2.2.1; vol. 3, 6.15 (#AC); vol. 2, JMP.",
    ),
    Known(
        "Free mode without protection keys: code read as data shows the patches",
        "Execute-only pages need them; elsewhere the twin can be read (cores/patch.py).",
        "SDM vol. 3, 4.6.2.",
    ),
    Known(
        "KVM on a host without VT-x or AMD-V: page-crossing stores done by half, a fault on the way to a "
        "handler is always #DF, CR2 after a shutdown, no 1 GiB pages, SFENCE is #UD, the host's CPUID",
        "Its kernel emulates ring 0 in software; `doctor --json` lists what it lacks.",
        "SDM vol. 3, 6.15 and table 6-5.",
    ),
    Known(
        "KVM in exact mode: the frame that #DF pushes shows the stepper's TF and RF",
        "The VMM takes deliveries back at the handlers that an instruction can reach; #DF is not one.",
        "KVM API, KVM_SET_GUEST_DEBUG.",
    ),
    Known(
        "EFER.LMA written with another value: #GP here, ignored by KVM in free mode",
        "AMD's CPUs refuse it, Intel's ignore it.",
        "APM vol. 2, 3.1.7; SDM vol. 4, IA32_EFER.",
    ),
)


def known(divergence: Divergence) -> bool:
    """Does the table explain it?"""
    return any(entry.applies is not None and entry.applies(divergence) for entry in TABLE)
