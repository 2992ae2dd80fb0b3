"""The table of accepted divergences: the difference, its cause, and the architecture's text.

A failing guest whose divergence is listed here is no failure. Everything else is a bug.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cores.machine.report import Divergence


@dataclass(frozen=True)
class Known:
    """what: the divergence. why: its cause. reference: the architecture's text. applies: recognizes it;
    None: it shows only where lockstep does not compare (free mode, KVM, guests)."""

    what: str
    why: str
    reference: str
    applies: Callable[[Divergence], bool] | None = None


def _after(*mnemonics: str) -> Callable[[Divergence], bool]:
    return lambda d: d.asm is not None and d.asm.split()[0] in mnemonics


_HORIZONTAL = ("phaddw", "phaddd", "phaddsw", "phsubw", "phsubd", "phsubsw")
_ARITHMETIC = ("add", "sub", "mul", "div", "hadd", "hsub", "addsub", "min", "max", "sqrt", "dp")


def _horizontal_with_itself(d: Divergence) -> bool:
    mnemonic, _, operands = (d.asm or "").partition(" ")
    return mnemonic in _HORIZONTAL and len(set(operands.split(", "))) == 1


def _two_nans(d: Divergence) -> bool:
    """Do only XMM registers differ, after arithmetic, and only in 32- or 64-bit parts that are NaNs?"""
    mnemonic = (d.asm or "").partition(" ")[0]
    if not mnemonic.startswith(_ARITHMETIC) or not all(name.startswith("xmm") for name in d.differs):
        return False
    bits, exponent = (64, 0x7FF0 << 48) if mnemonic.endswith("d") else (32, 0x7F800000)
    for name in d.differs:
        values = [row[name] for row in d.values.values()]
        for at in range(0, 128, bits):
            lanes = {value >> at & ((1 << bits) - 1) for value in values if isinstance(value, int)}
            if len(lanes) > 1 and not all(lane & exponent == exponent for lane in lanes):
                return False
    return True


def _sse_alone(d: Divergence) -> bool:
    return all(name == "mxcsr" or name.startswith("xmm") for name in d.differs)


def _x87(d: Divergence) -> bool:
    """Do x87's exceptions, C0 to C3 and their summary differ alone, after an x87 instruction?"""
    words = [row["fsw"] for row in d.values.values()]
    flags = [word & ~0xC7FF for word in words if isinstance(word, int)]
    return (d.asm or "").startswith("f") and len(flags) == len(words) and len(set(flags)) == 1


def _signalling_load(d: Divergence) -> bool:
    """After FLD, is st0 a NaN that differs in its quiet bit alone, and the status word in IE?"""
    if not _after("fld")(d) or not {"st0"} <= set(d.differs) <= {"st0", "fsw"}:
        return False
    values = [int(str(row["st0"]), 0) for row in d.values.values()]
    return len({value | 1 << 62 for value in values}) == 1 and all(
        value >> 64 & 0x7FFF == 0x7FFF for value in values
    )


TABLE: tuple[Known, ...] = (
    Known(
        "Near branches, RET and ENTER with the prefix 66",
        "Unicorn computes with 16 bits, as AMD's CPUs do; Intel's ignore the prefix there.",
        "SDM vol. 2, appendix A.2 (f64); APM vol. 3, 1.2.4: CPUs differ. No assembler writes it.",
    ),
    Known(
        "x87: IE, ZE, DE, C0 to C3 not always right; in free mode no stack faults but in FCOMI and its "
        "kin, and results after unmasked exceptions",
        "Unicorn's x87 does not look at the tags, nor tell which way it rounded.",
        "SDM vol. 1, 8.5.1.1 (stack), 8.1.3 (C0 to C3), 8.7 (#MF).",
        lambda d: d.differs == ("fsw",) and _x87(d),
    ),
    Known(
        "In free mode MXCSR.DE is not set, and unmasked SSE exceptions raise no #XM",
        "Unicorn's floating point does not report denormal operands, and never faults.",
        "SDM vol. 1, 11.5.2.2 (DE), 11.5.4 (#XM).",
    ),
    Known(
        "PHADDW, PHADDD, PHSUBW and their like with one register as both operands",
        "Unicorn overwrites the operand before it has read all of it.",
        "SDM vol. 2, PHADDW.",
        _horizontal_with_itself,
    ),
    Known(
        "SSE arithmetic on two NaNs: which of them the result is",
        "Unicorn chooses by x87's rule, the larger significand; SSE takes the first operand.",
        "SDM vol. 1, table 4-7.",
        _two_nans,
    ),
    Known(
        "RCPPS, RSQRTPS and their scalar forms: the last bits, and MXCSR's flags",
        "Unicorn divides, and records what it met; CPUs look up a table, each its own.",
        "SDM vol. 2, RCPPS: an approximation, and no floating-point exceptions.",
        lambda d: _after("rcpps", "rcpss", "rsqrtps", "rsqrtss")(d) and _sse_alone(d),
    ),
    Known(
        "CVTPS2PI and CVTTPS2PI of 8 bytes in front of a missing page: #PF on Unicorn",
        "It reads 16 bytes. The generator leaves 0F 2C and 0F 2D out of random bytes.",
        "SDM vol. 2, CVTPS2PI.",
    ),
    Known(
        "MMX instructions that fault: the tags already say that MMX is in use",
        "Unicorn switches to MMX before it reads the operand.",
        "SDM vol. 1, 9.5.",
        lambda d: d.differs == ("ftw",) and 0xFF in (r["ftw"] for r in d.values.values()),
    ),
    Known(
        "Page tables changed without INVLPG: which old translations are still in use",
        "Each core forgets at other moments. campaign.py lets it pass where the difference is gone as "
        "soon as every TLB forgets everything after each step.",
        "SDM vol. 3, 4.10.2.3 and 4.10.4.3: software must not rely on either.",
    ),
    Known(
        "Several faults of one instruction: #AC against #PF, and CR2 of an FXSAVE across pages",
        "Before each step the operands are checked all together, in the order of the encoding.",
        "SDM vol. 3, table 6-2: the order within a class is the implementation's.",
    ),
    Known(
        "FISTTP to 16 bits of a number too large: IE is not set",
        "Unicorn converts to 32 bits first.",
        "SDM vol. 2, FISTTP.",
        _after("fisttp"),
    ),
    Known(
        "FLD of a signalling NaN of 32 or 64 bits: it stays one",
        "Unicorn widens it without making it quiet.",
        "SDM vol. 1, 4.8.3.4 and 8.5.1.",
        _signalling_load,
    ),
    Known(
        "Free mode on Unicorn: no #GP for misaligned SSE operands, no #AC, and a near branch to a "
        "non-canonical address faults at its target",
        "Nothing is decoded ahead there; exact mode checks before the step.",
        "SDM vol. 1, 10.2.2.1; vol. 3, 6.15 (#AC); vol. 2, JMP.",
    ),
    Known(
        "Free mode without protection keys: code read as data shows the patches",
        "Execute-only pages need them; elsewhere the twin can be read (cores/vmm/patching/twin.py).",
        "SDM vol. 3, 4.6.2.",
    ),
    Known(
        "Free mode without protection keys: what a branch trusted already reaches, or a RET from a "
        "stack of addresses, and was never looked at, runs as on the host",
        "To catch each of these branches for ever would cost 40 us a call; the run's notes say so.",
        "cores/vmm/patching/twin.py, TRUST.",
    ),
    Known(
        "Free mode: code changed in a page that was long written as data runs unlooked at until the "
        "next exit",
        "Such a page is writable and executable at once; a fault at each store would cost 100 us.",
        "cores/vmm/patching/twin.py, shared pages; noted when it happens.",
    ),
    Known(
        "KVM on a host without VT-x or AMD-V: page-crossing stores done by half, a fault on the way to "
        "a handler is always #DF, CR2 after a shutdown, no 1 GiB pages, no SFENCE, the host's CPUID",
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
