"""The vocabulary of the dialect: directives, prefixes, and mnemonics that Keystone lacks or encodes
differently.

docs/assembly.md describes the dialect for users.
"""

from __future__ import annotations

from cores.programs.assembler import strings

IGNORED = frozenset({
    ".global", ".globl", ".text", ".data", ".bss", ".rodata", ".section", ".previous", ".intel_syntax",
    ".type", ".size", ".file", ".ident", ".extern", ".local", ".weak", ".hidden",
})  # fmt: skip
"""Directives without effect in one flat image, whose parts lie in the order of the source. `.text` ends
Keystone with a segmentation fault; `.section` it refuses."""

DATA_SIZES = {
    ".byte": 1, ".word": 2, ".short": 2, ".value": 2, ".2byte": 2, ".hword": 2, ".long": 4, ".int": 4,
    ".4byte": 4, ".quad": 8, ".8byte": 8, ".octa": 16,
}  # fmt: skip
"""Directives that emit one integer of this many bytes for each argument."""
FLOAT_SIZES = {".float": 4, ".single": 4, ".double": 8}
TEXTS = {".ascii": b"", ".asciz": b"\0", ".string": b"\0"}
"""Directives that emit text, with the terminator of each text."""
MODES = {".code16": 16, ".code32": 32, ".code64": 64}
SPACES = frozenset({".space", ".skip", ".zero", ".fill"})
ALIGNMENTS = frozenset({".align", ".balign", ".p2align"})
DIRECTIVES = frozenset(
    {*IGNORED, *DATA_SIZES, *FLOAT_SIZES, *TEXTS, *MODES, *SPACES, *ALIGNMENTS, ".org", ".equ", ".set",
     ".equiv", ".macro", ".endm", ".rept", ".irp", ".irpc", ".endr", ".if", ".ifdef", ".ifndef",
     ".ifb", ".ifeq", ".else", ".elseif", ".endif", ".purgem"}
)  # fmt: skip
"""All directives, to suggest one for a misspelled word."""

ENCODED = {
    "pushf": "0x9c", "popf": "0x9d", "iret": "0xcf", "sysretl": "0x0f, 0x07",
    "sysexitq": "0x48, 0x0f, 0x35", "sysexitl": "0x0f, 0x35", "endbr64": "0xf3, 0x0f, 0x1e, 0xfa",
    "endbr32": "0xf3, 0x0f, 0x1e, 0xfb", "serialize": "0x0f, 0x01, 0xe8",
    "wbnoinvd": "0xf3, 0x0f, 0x09", "skinit": "0x0f, 0x01, 0xde", "invlpga": "0x0f, 0x01, 0xdf",
    "vmrun": "0x0f, 0x01, 0xd8", "vmload": "0x0f, 0x01, 0xda", "vmsave": "0x0f, 0x01, 0xdb",
    "clzero": "0x0f, 0x01, 0xfc", "pushfw": "0x66, 0x9c", "popfw": "0x66, 0x9d", "iretw": "0x66, 0xcf",
}  # fmt: skip
"""Instructions without operands, as bytes. Keystone lacks them, or encodes the 16-bit form of `pushf`,
`popf` and `iret`: the plain opcode has the mode's operand size, as in the GNU assembler."""

_PUSHES = {
    "pusha": "0x60", "popa": "0x61", "pushf": "0x9c", "popf": "0x9d", "iret": "0xcf", "ret": "0xc3",
    "retn": "0xc3", "retf": "0xcb", "lret": "0xcb", "leave": "0xc9",
}  # fmt: skip
_LEGACY = {
    **{word: (opcode, 0) for word, opcode in _PUSHES.items()},
    **{f"{word}w": (opcode, 2) for word, opcode in _PUSHES.items()},
    **{f"{word}{suffix}": (opcode, 4) for word, opcode in _PUSHES.items() for suffix in "dl"},
    "sysret": ("0x0f, 0x07", 0), "sysexit": ("0x0f, 0x35", 0),
}  # fmt: skip
"""Instructions without operands in 16- and 32-bit code: opcode, and the operand size in bytes, 0 for
the mode's. Keystone has one size of most, whatever the mode."""
SEGMENT_STACK = {
    ("push", "es"): "0x06", ("pop", "es"): "0x07", ("push", "cs"): "0x0e", ("push", "ss"): "0x16",
    ("pop", "ss"): "0x17", ("push", "ds"): "0x1e", ("pop", "ds"): "0x1f", ("push", "fs"): "0x0f, 0xa0",
    ("pop", "fs"): "0x0f, 0xa1", ("push", "gs"): "0x0f, 0xa8", ("pop", "gs"): "0x0f, 0xa9",
}  # fmt: skip
"""PUSH and POP of a segment register in 16- and 32-bit code, to which Keystone adds a prefix 66."""
RETURNS = {"ret": "0xc2", "retn": "0xc2", "retf": "0xca", "lret": "0xca"}
"""Returns that release as many bytes as their operand says."""
TABLE_REGISTERS = {"sgdt": 0, "sidt": 1, "lgdt": 2, "lidt": 3}
"""ModRM.reg of the instructions with opcode 0F 01 to which Keystone adds a prefix 66 in 32-bit code:
LGDT would then load 24 bits of the base (SDM vol. 2, LGDT)."""


def encoded(word: str, mode: int) -> str | None:
    """The bytes of an instruction without operands that Keystone does not encode rightly, else None."""
    if mode == 64 or word not in _LEGACY:
        return ENCODED.get(word)
    opcode, size = _LEGACY[word]
    return opcode if size in (0, mode // 8) else f"0x66, {opcode}"


RENAMED = {
    "sysretq": "sysret", "ud2a": "ud2", "lret": "retf", "lretq": "retfq",
    "loopnz": "loopne", "loopz": "loope", "fcmova": "fcmovnbe", "fcmovae": "fcmovnb",
    "fcmovna": "fcmovbe", "fcmovnae": "fcmovb",
}  # fmt: skip
"""Mnemonics that have another name in Keystone."""

UNSIZED = {
    "sysret": "sysretq (to 64-bit code) or sysretl (to 32-bit code)",
    "sysexit": "sysexitq (to 64-bit code) or sysexitl (to 32-bit code)",
}
"""Mnemonics without a suffix whose meaning differs between assemblers."""

FOREIGN = frozenset(
    [
        "montmul",
        "xcryptcbc",
        "xcryptcfb",
        "xcryptctr",
        "xcryptecb",
        "xcryptofb",
        "xsha1",
        "xsha256",
        "xstore",
        "xstorerng",
    ]
)
"""VIA's instructions: Keystone omits a prefix of theirs, and no other CPU has them."""
FIXED_REGISTERS = {
    "monitor": (("rax", "ecx", "edx"), ("rax", "rcx", "rdx")),
    "mwait": (("eax", "ecx"), ("rax", "rcx")),
    "monitorx": (("rax", "ecx", "edx"), ("rax", "rcx", "rdx")),
    "mwaitx": (("eax", "ecx", "ebx"), ("rax", "rcx", "rbx")),
}  # fmt: skip
"""The only registers that may be written as operands of these instructions."""
PLACES = frozenset(
    [
        "clflush",
        "clflushopt",
        "clwb",
        "invlpg",
        "prefetch",
        "prefetchw",
        "prefetcht0",
        "prefetcht1",
        "prefetcht2",
        "prefetchnta",
    ]
)
"""Instructions that take an address: a size given for it has no effect."""
ADDED = frozenset(
    {
        *ENCODED,
        *_LEGACY,
        *RENAMED,
        *UNSIZED,
        "movabs",
        "rdpid",
        "ljmp",
        "lcall",
        "pushw",
        "pushq",
        "pushd",
        "pushl",
    }
)
"""Mnemonics in addition to those of Capstone."""
PREFIXES = {
    "rep": 0xF3, "repe": 0xF3, "repz": 0xF3, "repne": 0xF2, "repnz": 0xF2, "lock": 0xF0,
    "data16": 0x66, "data32": 0x66, "rex64": 0x48,
}  # fmt: skip
"""Prefixes, with the byte of each."""
LOCKABLE = frozenset({
    "adc", "add", "and", "btc", "btr", "bts", "cmpxchg", "cmpxchg8b", "cmpxchg16b", "dec", "inc",
    "neg", "not", "or", "sbb", "sub", "xadd", "xchg", "xor",
})  # fmt: skip
"""Instructions that LOCK may precede, with memory as destination (SDM vol. 2, LOCK): others are #UD."""
REPEATABLE = frozenset(
    {f"{s}{size}" for s in strings.OPCODES for size in ("", *"bwdq")} | {"nop", "ret"}
)
"""Instructions that REP may precede: string instructions, and those that compilers emit with it (`rep
nop`, `rep ret`)."""
