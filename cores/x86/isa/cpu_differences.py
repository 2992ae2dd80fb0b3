"""Known differences between x86-64 CPUs, and the behaviour of the platform's CPU.

The guest sees one CPU, "RingscopeCPU", on every host. Where the manuals of Intel (SDM) and AMD (APM)
differ, or one of them leaves a result open, the platform has one answer; ``TABLE`` lists each such
place once, with the reference and the means by which every core arrives at that answer:

    COMPLETED   the VMM completes the instruction on every core, and the host's CPU never executes it:
                found before it runs in exact mode, patched in free mode (``Instruction.varies``;
                counted as bridged). KVM has no patches: running freely, the host's CPU decides.
    EMULATED    the same for an instruction that the VMM emulates anyway, since it is sensitive. KVM,
                running freely, executes it in guest mode.
    LACKING     some CPUs raise #UD. The VMM then completes the instruction; no patch is needed.
    SETTLED     executed, then set to the platform's value in exact mode (undefined_results.py).
    CHECKED     executed, unless the VMM finds before it that the platform's CPU would fault; running
                freely, the host's CPU decides.
    LEFT        the result of the host's CPU, or of Unicorn.

The VMM does not ask which CPU executes: all means depend on the instruction alone, or on what a stop
reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cores.x86.isa import opcodes
from cores.x86.isa.encoding import ONE_BYTE, TWO_BYTE, Encoding


class Means(Enum):
    """The means by which a core arrives at the platform's answer; see the module's text."""

    COMPLETED = "completed by the VMM"
    EMULATED = "emulated, being sensitive"
    LACKING = "completed where the CPU refuses it"
    SETTLED = "set to the platform's value"
    CHECKED = "checked by the VMM before it runs"
    LEFT = "as this CPU has it"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between CPUs. instructions: the instructions concerned. intel, amd: what their
    CPUs do (from the manual where no such CPU could be measured). platform: what RingscopeCPU does.
    reference: SDM or APM section."""

    instructions: str
    intel: str
    amd: str
    platform: str
    means: Means
    reference: str


TABLE: tuple[Difference, ...] = (
    Difference(
        "FXSAVE, FNSAVE, FNSTENV: pointers to the last x87 instruction and its operand, its opcode",
        "Always stored; FCS and FDS are 0 on CPUs that deprecate them.",
        "Stored while an unmasked x87 exception is pending (FSW.ES = 1), else 0; FCS and FDS are 0.",
        "As AMD's: nothing but an #MF handler has a use for them.",
        Means.COMPLETED,
        "SDM vol. 1, 8.1.8 and 10.5.1; APM vol. 2, 11.4.4",
    ),
    Difference(
        "FXRSTOR, FRSTOR, FLDENV: the same pointers",
        "Always loaded.",
        "Loaded where the image has FSW.ES = 1, else 0.",
        "As AMD's.",
        Means.COMPLETED,
        "SDM vol. 1, 8.1.8; APM vol. 2, 11.4.4",
    ),
    Difference(
        "FXSAVE: MXCSR_MASK. LDMXCSR, FXRSTOR: bit 17 of MXCSR",
        "0xFFFF; #GP(0) for a value with bit 17.",
        "0x2FFFF where the CPU has the misaligned SSE mode; bit 17 is taken.",
        "0xFFFF; #GP(0).",
        Means.COMPLETED,
        "SDM vol. 1, 11.6.6; APM vol. 1, 4.2.2",
    ),
    Difference(
        "Near CALL, RET, JMP, Jcc, LOOP, JRCXZ with prefix 66 and no REX.W",
        "The prefix is ignored.",
        "The operand has 16 bits: immediate and pushed or popped word, too; RIP is cut to 16 bits.",
        "The prefix is ignored.",
        Means.COMPLETED,
        "SDM vol. 2, JMP and appendix A.2.5 (f64); APM vol. 3, 1.2.4 and table B-5",
    ),
    Difference(
        "LOOPNE with prefix F3, LOOPE with prefix F2",
        "Reserved.",
        "The prefix decides: LOOPE and LOOPNE (measured).",
        "The prefix is ignored.",
        Means.COMPLETED,
        "SDM vol. 2, 2.1.1; APM vol. 3, 1.2.6",
    ),
    Difference(
        "RCPPS, RCPSS, RSQRTPS, RSQRTSS",
        "An approximation: the relative error is at most 1.5 * 2**-12.",
        "Another one, within the same bound.",
        "The value, rounded to nearest (vmm/emulate/approximations.py).",
        Means.SETTLED,
        "SDM vol. 2, RCPPS, RSQRTPS; APM vol. 4, RCPPS, RSQRTPS",
    ),
    Difference(
        "MOVUPS, MOVUPD, MOVDQU, LDDQU, PCMPxSTRx of user code with alignment checks on (EFLAGS.AC)",
        "#AC or none at an address that is not aligned to 8 bytes, by the CPU's make; none at others.",
        "#AC at an address that is not aligned to 16 bytes (measured); for MASKMOVDQU to 8.",
        "As AMD's.",
        Means.CHECKED,
        "SDM vol. 3, 6.15, interrupt 17; APM vol. 4, the instructions' pages",
    ),
    Difference(
        "CVTPI2PS of memory: x87's tags and TOP",
        "As after any MMX instruction: TOP 0, all registers in use.",
        "Unchanged (measured).",
        "As Intel's.",
        Means.SETTLED,
        "SDM vol. 2, CVTPI2PS; APM vol. 4, CVTPI2PS",
    ),
    Difference(
        "F2XM1, FYL2X, FYL2XP1, FPTAN, FPATAN, FSIN, FCOS, FSINCOS: the last bits; PE after them",
        "An error of less than 1 ulp, more for FSIN and its kin with large operands.",
        "The same, with other last bits.",
        "As the core computes it, Unicorn with 53 bits: cores that differ are told as differing.",
        Means.LEFT,
        "SDM vol. 1, 8.3.10; APM vol. 1, 6.4.5",
    ),
    Difference(
        "FCOM, FUCOM, FTST, FCOMI and their kin with an unmasked #IA or #D: C3 C2 C0, or ZF PF CF",
        "Not set.",
        "Set: to unordered after #IA, to the result after #D (measured).",
        "Not set.",
        Means.SETTLED,
        "SDM vol. 2, FCOM/FCOMP/FCOMPP and FCOMI/FCOMIP, notes to the tables of results",
    ),
    Difference(
        "0F 0D with a register operand",
        "A NOP.",
        "#UD.",
        "A NOP.",
        Means.LACKING,
        "SDM vol. 2, PREFETCHW and table A-3; APM vol. 3, PREFETCH",
    ),
    Difference(
        "INT1 (F1)",
        "#DB with RIP behind it.",
        "The same. Where a hypervisor intercepts #DB on AMD, Linux may see RIP at the instruction.",
        "#DB with RIP behind it.",
        Means.EMULATED,
        "SDM vol. 3, 6.4.4 and 17.3.1.4; APM vol. 2, 15.12.2",
    ),
    Difference(
        "LSS, LFS, LGS, far CALL and far JMP through memory, with REX.W",
        "A 64-bit offset: 10 bytes are read, 16 pushed.",
        "REX.W is ignored: a 32-bit offset.",
        "A 64-bit offset.",
        Means.EMULATED,
        "SDM vol. 2, LDS/LES/LFS/LGS/LSS, CALL, JMP; APM vol. 3, CALL (Far), JMP (Far), LFS",
    ),
    Difference(
        "A null selector loaded into FS or GS",
        "The base becomes 0.",
        "The base is kept, unless CPUID has NullSelectClearsBase.",
        "The base becomes 0.",
        Means.EMULATED,
        "SDM vol. 3, 3.4.4.1; APM vol. 3, CPUID 8000_0021h EAX[6]",
    ),
    Difference(
        "SYSENTER and SYSEXIT",
        "Executed; #GP(0) while IA32_SYSENTER_CS is 0, as it is on KVM.",
        "#UD in long mode; elsewhere as on Intel's.",
        "#UD: CPUID has no SEP.",
        Means.EMULATED,
        "SDM vol. 2, SYSENTER; APM vol. 3, SYSENTER",
    ),
    Difference(
        "SSE4a, MONITORX, MWAITX, CLZERO, RDPRU, MCOMMIT, INVLPGB, TLBSYNC",
        "#UD.",
        "Executed where CPUID lists them.",
        "#UD.",
        Means.EMULATED,
        "APM vol. 3, the instructions' pages",
    ),
    Difference(
        "WBNOINVD (F3 0F 09)",
        "WBINVD on CPUs without it: the prefix is ignored.",
        "The same.",
        "WBINVD.",
        Means.EMULATED,
        "SDM vol. 2, WBNOINVD; APM vol. 3, WBNOINVD",
    ),
    Difference(
        "Flags after shifts, rotates, multiplication, division, bit scans, bit tests, AF of logic",
        "Undefined.",
        "Undefined, with other values.",
        "0.",
        Means.SETTLED,
        "SDM vol. 1, appendix A; APM vol. 3, the instructions' pages",
    ),
    Difference(
        "BSF and BSR of 0; SHLD and SHRD by more than the operand's width; BSWAP of 16 bits",
        "The destination is undefined; BSF and BSR keep it.",
        "The same, documented for BSF and BSR.",
        "The destination is kept.",
        Means.SETTLED,
        "SDM vol. 2, BSF, SHLD, BSWAP; APM vol. 3, BSF",
    ),
    Difference(
        "LAR, LSL of system descriptors",
        "Types 2, 9, 11 and (LAR) 12 are valid in long mode.",
        "The same.",
        "The same.",
        Means.EMULATED,
        "SDM vol. 2, tables 3-53 and 3-64; APM vol. 3, LAR, LSL",
    ),
)  # fmt: skip

_X87_ENVIRONMENT = {(0xD9, 4), (0xD9, 6), (0xDD, 4), (0xDD, 6)}
"""FLDENV, FNSTENV, FRSTOR, FNSAVE: opcode and ModRM.reg, with a memory operand."""


def varies(e: Encoding) -> bool:
    """Whether the VMM completes this instruction on every core (``Means.COMPLETED``)."""
    if e.map == ONE_BYTE:
        if (e.opcode, e.reg) in _X87_ENVIRONMENT:
            return e.address is not None
        if e.opcode in (0xE0, 0xE1) and e.rep:
            return True
        near = e.opcode in opcodes.NEAR or (e.opcode == 0xFF and e.reg in (2, 4))
        return near and _overlooked(e)
    if e.map == TWO_BYTE:
        if e.opcode == 0xAE:  # fxsave, fxrstor, ldmxcsr
            return e.address is not None and e.reg < 3 and e.mandatory == "np"
        return 0x80 <= e.opcode <= 0x8F and _overlooked(e)
    return False


def _overlooked(e: Encoding) -> bool:
    """Whether it has a prefix 66 that some CPUs ignore, being a near branch in 64-bit code."""
    return e.bits == 64 and e.operand_prefix and not e.wide
