"""The instructions' names, as Capstone knows them."""

from __future__ import annotations

from functools import cache

from cores.programs.assembler import dialect, strings


@cache
def mnemonics() -> frozenset[str]:
    """Every mnemonic that Capstone decodes, and the aliases and prefixes that only assemblers accept:
    behind a `;` other words begin a comment."""
    import capstone

    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    names = (decoder.insn_name(i) for i in range(1, capstone.x86.X86_INS_ENDING))
    conditions = "c nc z nz na nae nb nbe ng nge nl nle pe po e ne a ae b be g ge l le o no p np s ns"
    aliases = [kind + c for kind in ("j", "set", "cmov") for c in conditions.split()]
    waiting = ["fwait", "fstsw", "fstcw", "fsave", "fstenv", "finit", "fclex"]
    others = ["repe", "repz", "icebp", "pushf", "popf", "xlat", "faddp", "fcomip", "fucomip"]
    known = [*filter(None, names), *aliases, *waiting, *others]
    return frozenset([*known, *strings.OPCODES, *dialect.PREFIXES])


def is_mnemonic(word: str) -> bool:
    return word in mnemonics()
