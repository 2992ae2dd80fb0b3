"""Names and bits of the registers (Intel SDM vol. 1 ch. 3, vol. 3 ch. 2).

Bits and vectors are plain integers in a class for each register, not enums: in Python 3.11 the look-up
of an enum member costs 75 ns, that of an integer 18 ns, and one exit makes thirty.
"""

from __future__ import annotations

GPR_NAMES = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
"""The general registers in encoding order."""

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
R8, R9, R10, R11, R12, R13, R14, R15 = range(8, 16)

SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs")
"""The segment registers in encoding order."""

ES, CS, SS, DS, FS, GS = range(6)

STATE_NAMES = (
    *GPR_NAMES, "rip", "rflags", "cs", "ss", "ds", "es", "fs", "gs",
    "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "fs_base", "gs_base",
)  # fmt: skip
"""The registers compared between cores after each instruction, in the order of
``VirtualCpu.state()``."""

MASK16, MASK32, MASK64 = (1 << 16) - 1, (1 << 32) - 1, (1 << 64) - 1


class Flag:
    """RFLAGS (SDM vol. 1, 3.4.3)."""

    CF = 1 << 0
    FIXED = 1 << 1
    PF = 1 << 2
    AF = 1 << 4
    ZF = 1 << 6
    SF = 1 << 7
    TF = 1 << 8
    IF = 1 << 9
    DF = 1 << 10
    OF = 1 << 11
    IOPL = 3 << 12
    NT = 1 << 14
    RF = 1 << 16
    VM = 1 << 17
    AC = 1 << 18
    VIF = 1 << 19
    VIP = 1 << 20
    ID = 1 << 21


ARITHMETIC_FLAGS = Flag.CF | Flag.PF | Flag.AF | Flag.ZF | Flag.SF | Flag.OF
"""The six status flags."""

USER_FLAGS = ARITHMETIC_FLAGS | Flag.DF
"""The flags that ordinary instructions change; on a trap core they live in the real register."""


class Cr0:
    """CR0 (SDM vol. 3, 2.5)."""

    PE = 1 << 0
    MP = 1 << 1
    EM = 1 << 2
    TS = 1 << 3
    ET = 1 << 4
    NE = 1 << 5
    WP = 1 << 16
    AM = 1 << 18
    NW = 1 << 29
    CD = 1 << 30
    PG = 1 << 31


class Cr4:
    """The CR4 bits that the platform's CPU has (SDM vol. 3, 2.5)."""

    TSD = 1 << 2
    DE = 1 << 3
    PSE = 1 << 4
    PAE = 1 << 5
    PGE = 1 << 7
    OSFXSR = 1 << 9
    OSXMMEXCPT = 1 << 10
    SMEP = 1 << 20
    SMAP = 1 << 21


class Efer:
    """IA32_EFER (SDM vol. 3, 2.2.1)."""

    SCE = 1 << 0
    LME = 1 << 8
    LMA = 1 << 10
    NXE = 1 << 11


class Msr:
    """The model-specific registers of the platform; any other number is #GP."""

    TSC = 0x10
    APIC_BASE = 0x1B
    EFER = 0xC0000080
    STAR = 0xC0000081
    LSTAR = 0xC0000082
    CSTAR = 0xC0000083
    FMASK = 0xC0000084
    FS_BASE = 0xC0000100
    GS_BASE = 0xC0000101
    KERNEL_GS_BASE = 0xC0000102


class ApicBase:
    """IA32_APIC_BASE (SDM vol. 3, 10.4.4). Its address is fixed on this platform."""

    BSP = 1 << 8
    EN = 1 << 11
    ADDRESS = 0xFEE00000
    INITIAL = ADDRESS | EN | BSP


class Vector:
    """Exception vectors (SDM vol. 3, table 6-1)."""

    DE = 0
    DB = 1
    NMI = 2
    BP = 3
    OF = 4
    BR = 5
    UD = 6
    NM = 7
    DF = 8
    TS = 10
    NP = 11
    SS = 12
    GP = 13
    PF = 14
    MF = 16
    AC = 17
    MC = 18
    XM = 19


class PageFault:
    """The error code of #PF (SDM vol. 3, 4.7)."""

    P = 1 << 0
    W = 1 << 1
    U = 1 << 2
    RSVD = 1 << 3
    I = 1 << 4  # noqa: E741 - the SDM's own name is I/D


def _members(register: type) -> dict[str, int]:
    return {name: value for name, value in vars(register).items() if name.isupper()}


FLAG_BITS = _members(Flag)
"""Name -> bits, in the order of the register."""

VECTOR_NAMES = {vector: f"#{name}" for name, vector in _members(Vector).items()}
"""Vector -> the SDM's name of the exception: "#GP"."""

MSRS = frozenset(_members(Msr).values())
"""The numbers of all MSRs of the platform."""
COUNTER_MSRS = range(0xC0010000, 0xC0010008)
"""PerfEvtSel0 to 3 and PerfCtr0 to 3 of CPUs that are not Intel's (AMD APM vol. 2, 13.2). The platform
has no counters, but kvm-unit-tests reset them without asking: they read 0 and take 0."""


def _register_file() -> dict[str, tuple[int, int, int]]:
    names: dict[str, tuple[int, int, int]] = {}
    for number, name in enumerate(GPR_NAMES):
        names[name] = (number, 8, 0)
        if name[1].isdigit():
            names |= {
                name + "d": (number, 4, 0),
                name + "w": (number, 2, 0),
                name + "b": (number, 1, 0),
            }
        else:
            names |= {"e" + name[1:]: (number, 4, 0), name[1:]: (number, 2, 0)}
            byte = name[1] + "l" if number < 4 else name[1:] + "l"
            names[byte] = (number, 1, 0)
            if number < 4:
                names[name[1] + "h"] = (number, 1, 8)
    return names


REGISTER_FILE = _register_file()
"""Every name of a general register or of a part -> (number, bytes, bit at which it begins):
"eax" -> (0, 4, 0), "ch" -> (1, 1, 8) (SDM vol. 1, 3.4.1)."""


def register_number(name: str) -> int:
    """Encoding number of a general register, whatever its size ("r8d" -> 8)."""
    return REGISTER_FILE[name][0]


def canonical(address: int) -> bool:
    """Whether this 64-bit address is canonical with 48 linear bits (SDM vol. 1, 3.3.7.1)."""
    return (address >> 47) in (0, 0x1FFFF)
