"""Keystone's dialect of assembly: what it lacks, and how to say it so that it understands.

Pure text to text. Keystone's own meaning stands wherever it accepts a statement: `pushf` is the
16-bit form, `sysret` the 64-bit one, `mov rax, [label]` an absolute address.
"""

from __future__ import annotations

import re
from collections.abc import Callable

IGNORED = frozenset({
    ".global", ".globl", ".text", ".data", ".bss", ".rodata", ".section", ".previous", ".intel_syntax",
    ".code64", ".type", ".size", ".file", ".ident", ".extern", ".local", ".weak", ".hidden",
})  # fmt: skip
"""Directives without meaning for one flat image, whose parts lie in the order of the source.
`.text` ends Keystone with a segmentation fault; `.section` it refuses."""

DATA_SIZES = {
    ".byte": 1, ".word": 2, ".short": 2, ".value": 2, ".2byte": 2, ".long": 4, ".int": 4,
    ".4byte": 4, ".quad": 8, ".8byte": 8, ".octa": 16, ".float": 4, ".single": 4, ".double": 8,
}  # fmt: skip
"""Directives that lay down one value of so many bytes for each argument."""

BLOCKS = {
    ".rept": ".endr", ".irp": ".endr", ".irpc": ".endr", ".macro": ".endm", ".if": ".endif",
    ".ifdef": ".endif", ".ifndef": ".endif", ".ifeq": ".endif", ".ifne": ".endif", ".ifge": ".endif",
    ".ifgt": ".endif", ".ifle": ".endif", ".iflt": ".endif",
}  # fmt: skip
"""Directives that open a block, and what closes it."""

CLOSERS = frozenset(BLOCKS.values())
ALTERNATIVES = frozenset({".else", ".elseif"})
TEXTS = frozenset({".ascii", ".asciz", ".string"})
DEFINERS = frozenset({".equ", ".set", ".equiv"})
PASSED = DATA_SIZES.keys() | ALTERNATIVES | TEXTS | DEFINERS | {".code16", ".code32"}
SPACES = frozenset({".space", ".skip", ".zero", ".fill"})
_POWERS = frozenset(1 << n for n in range(25))
ALIGNMENTS = {".align": _POWERS, ".balign": _POWERS, ".p2align": frozenset(range(25))}

MNEMONICS = {
    "sysretq": "sysret", "sysretl": ".byte 0x0f, 0x07", "sysexitq": ".byte 0x48, 0x0f, 0x35",
    "endbr64": ".byte 0xf3, 0x0f, 0x1e, 0xfa", "movsd": "movs dword ptr [rdi], dword ptr [rsi]",
    "xlat": "xlatb", "ud2a": "ud2", "lret": "retf", "lretq": "retfq", "loopnz": "loopne",
    "loopz": "loope", "serialize": ".byte 0x0f, 0x01, 0xe8",
}  # fmt: skip
"""Mnemonics that Keystone lacks, in its words. movsd: the string instruction, without operands."""

ADDED = frozenset(MNEMONICS) | {"rdpid"}
PREFIXES = frozenset({"rep", "repe", "repz", "repne", "repnz", "lock", "data16", "rex64"})
REGISTERS = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip

_HERE = re.compile(r"(?<![\w.$@\\])[.$](?![\w.$@])")
_QUOTED = re.compile(r'("(?:\\.|[^"\\])*"|\'(?:\\.|[^\\])\')')
_NUMBER = re.compile(r"(?<![\w.$])(0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+)\b")
_MOST_DIGITS = 140
"""No number that fits needs as many, and Python would not read thousands."""
_STRAY = re.compile(r"(?<![\w.$@])@")
_AT_AND_T = re.compile(r"(?:^|[,(:*])\s*(?:%[A-Za-z]|\$-?[0-9])")
_SIZED = re.compile(r"\b(byte|word|dword|qword|tbyte|oword|xmmword)\s*(?=\[)", re.IGNORECASE)
_INDEXED = re.compile(r"(?<![\w.$@:])(?!ptr\b)([A-Za-z_.][\w.$@]*)\[", re.IGNORECASE)
_FAR = re.compile(r"(far|fword|tbyte)\s+ptr\s+(?=\[)", re.IGNORECASE)
_NO_CONTROL_REGISTER = re.compile(r"\bcr(1|[5-7]|9|1[0-5])\b", re.IGNORECASE)


def outside_quotes(change: Callable[[str], str], text: str) -> str:
    """Apply ``change`` to the pieces of ``text`` between strings and character constants."""
    return "".join(p if i % 2 else change(p) for i, p in enumerate(_QUOTED.split(text)))


def split(text: str, separator: str) -> list[str]:
    """Split where the separator stands outside quotes."""
    return [p.replace("\0", separator) for p in _hide(text, separator).split(separator)]


def _hide(text: str, separator: str) -> str:
    return "".join(
        p.replace(separator, "\0") if i % 2 else p for i, p in enumerate(_QUOTED.split(text))
    )


def place(name: str, text: str) -> str:
    """`$` and `.`, the place where they stand, by another name."""
    return outside_quotes(lambda piece: _HERE.sub(name, piece), text)


def number(text: str) -> int | None:
    """A plain number, or None for any other expression."""
    try:
        return int(text.strip(), 0)
    except ValueError:
        return None


def complaint(word: str, rest: str) -> str | None:
    """What Keystone accepts in silence and gets wrong, or never returns from; None: nothing."""
    bare = _QUOTED.sub("0", rest)
    if any(bare.count(a) != bare.count(b) for a, b in ("[]", "()", "{}")):
        return "unbalanced brackets"
    if re.search(r"[-+*/|&^,]\s*$", bare):
        return "the statement ends too early"
    if "\\@" in bare:
        return r"\@ is not supported"
    if word in IGNORED:  # `.type main, %function`
        return None
    if _STRAY.search(bare):
        return "unexpected character"
    if _AT_AND_T.search(bare):
        return "AT&T syntax; only Intel syntax is understood"
    limit = 1 << (128 if word == ".octa" else 64)
    for n in _NUMBER.findall(bare):
        if len(n) > _MOST_DIGITS or int(n, 0 if n[1:2] in ("x", "X", "b", "B") else 10) >= limit:
            return "number out of range"
    if word == "mov" and _NO_CONTROL_REGISTER.search(bare):
        return "invalid operand"
    if word == "push" and (number(bare) or 0) >= 1 << 32:
        return "invalid operand"
    return None


def operands(text: str) -> str:
    """`qword [x]`, `offset x`, `[rel x]` and `x[rip]` in Keystone's words."""

    def change(piece: str) -> str:
        piece = _SIZED.sub(lambda m: f"{m[1]} ptr ", piece)
        piece = re.sub(r"\boffset\s+", "", piece, flags=re.IGNORECASE)
        piece = re.sub(r"\[\s*rel\s+", "[rip + ", piece, flags=re.IGNORECASE)
        return _INDEXED.sub(r"[\1 + ", piece)

    return outside_quotes(change, text)


def mnemonic(word: str, rest: str) -> tuple[str, str] | None:
    """An instruction that Keystone has under another name or not at all; None: bad operand."""
    lower = word.lower()
    if lower == "rdpid":  # F3 0F C7 /7, the register in ModRM.rm (SDM vol. 2, RDPID)
        if rest.lower() not in REGISTERS:
            return None
        n = REGISTERS.index(rest.lower())
        return f".byte 0xf3, {'0x41, ' * (n >= 8)}0x0f, 0xc7, {0xF8 | n & 7:#x}", ""
    if lower in MNEMONICS and (not rest or lower != "movsd"):
        return MNEMONICS[lower], rest
    if lower in ("jmp", "call") and (match := _FAR.match(rest)):  # m16:32, and m16:64 (tbyte)
        wide = "rex64\n" if match[1].lower() == "tbyte" else ""
        return f"{wide}l{lower}", rest[match.end() :]
    return word, rest


def space(word: str, size: str, others: list[str]) -> tuple[str, str] | None:
    """`.space`, `.skip`, `.zero`, `.fill` with a size that depends on labels. Keystone drops it, or
    never returns from it; its `. =` does not. None: it is to be filled with something but zeros."""
    unit = others.pop(0).strip() if word == ".fill" and others else "1"
    if others and number(others[0]) != 0:
        return None
    return ". =", f". + ({size}) * {unit}" if unit != "1" else f". + ({size})"
