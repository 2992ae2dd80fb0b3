"""16- and 32-bit code: the bytes are those of the GNU assembler, recorded.

Keystone encodes many of these with another operand size: `ret` in 16-bit code pops 32 bits, `lgdt` in
32-bit code loads 24 bits of the base.
"""

from __future__ import annotations

import pytest

from cores.errors import InputError
from cores.programs.assembler.keystone import assemble, installed
from cores.x86.isa.decoder import decode, text

pytestmark = pytest.mark.skipif(not installed(), reason="Keystone has no package for this machine")

BASE = 0x1000
IN_32 = (
    ("push es", "06"), ("push cs", "0e"), ("pop ss", "17"), ("pop ds", "1f"), ("pusha", "60"),
    ("pushad", "60"), ("popa", "61"), ("popad", "61"), ("pushaw", "6660"), ("popaw", "6661"),
    ("pushf", "9c"), ("pushfd", "9c"), ("popfw", "669d"), ("iret", "cf"), ("iretd", "cf"),
    ("iretw", "66cf"), ("retf", "cb"), ("retf 8", "ca0800"), ("lret", "cb"), ("ret", "c3"),
    ("ret 4", "c20400"), ("jmp 0x8:x", "ea001000000800"), ("call 0x8:x", "9a001000000800"),
    ("ljmp [eax]", "ff28"), ("jmp fword ptr [eax]", "ff28"), ("lgdt [eax]", "0f0110"),
    ("lidt [x]", "0f011d00100000"), ("sgdt [eax]", "0f0100"), ("lldt ax", "0f00d0"),
    ("str eax", "0f00c8"), ("arpl ax, bx", "63d8"), ("mov cr0, eax", "0f22c0"),
    ("mov eax, cr3", "0f20d8"), ("bound eax, [ebx]", "6203"), ("into", "ce"), ("daa", "27"),
    ("aam", "d40a"), ("aad 16", "d510"), ("inc eax", "40"), ("dec edi", "4f"),
    ("les eax, [ebx]", "c403"), ("lss esp, [ebx]", "0fb223"), ("mov eax, [0x12345678]", "a178563412"),
    ("mov [0xb8000], ax", "66a300800b00"), ("lea eax, [ebx + ecx*4 + 8]", "8d448b08"),
    ("mov eax, [bp + 2]", "678b4602"), ("push 5", "6a05"), ("push 0x12345678", "6878563412"),
    ("pushw 5", "666a05"), ("push dword ptr [eax]", "ff30"), ("jmp x", "ebfe"),
    ("call x", "e8fbffffff"), ("jz x", "74fe"), ("enter 16, 0", "c8100000"), ("leave", "c9"),
    ("xlatb", "d7"),
    ("movsd", "a5"), ("rep movsd", "f3a5"), ("rep stosd", "f3ab"), ("outsd", "6f"),
    ("rep insd", "f36d"), ("sysexit", "0f35"), ("mov eax, fs:[0]", "64a100000000"),
    ("mov cs:[eax], ebx", "2e8918"), ("mov eax, 0xffffffff", "b8ffffffff"),
    ("call dword ptr [0x1234]", "ff1534120000"), ("data16 retf", "66cb"), ("leavew", "66c9"),
    ("pushd 5", "6a05"), ("mov eax, [0xfee00020]", "a12000e0fe"),
)  # fmt: skip
IN_16 = (
    ("mov ds, ax", "8ed8"), ("jmp 0x8:x", "ea00100800"), ("jmp x", "ebfe"), ("call x", "e8fdff"),
    ("jz x", "74fe"), ("int 0x13", "cd13"), ("stosw", "ab"), ("movsd", "66a5"), ("push es", "06"),
    ("pop ds", "1f"), ("pusha", "60"), ("pushad", "6660"), ("popa", "61"), ("popad", "6661"),
    ("pushf", "9c"), ("pushfd", "669c"), ("iret", "cf"), ("iretd", "66cf"), ("iretw", "cf"),
    ("ret", "c3"), ("retf", "cb"), ("lret", "cb"), ("mov ax, [bx + si + 2]", "8b4002"),
    ("mov eax, [ebx + ecx*4]", "67668b048b"), ("mov al, es:[di]", "268a05"), ("lgdt [bx]", "0f0117"),
    ("or al, 1", "0c01"), ("mov cr0, eax", "0f22c0"), ("inc eax", "6640"),
    ("add ax, 0x1234", "053412"), ("push 5", "6a05"), ("pushd 5", "666a05"),
    ("push dword ptr [bx]", "66ff37"),
    ("les di, [bx]", "c43f"), ("jmp fword ptr [bx]", "66ff2f"), ("leave", "c9"), ("xlatb", "d7"),
    ("bound ax, [bx]", "6207"), ("into", "ce"), ("sgdt [bx]", "0f0107"), ("arpl ax, bx", "63d8"),
    ("mov ax, cs", "8cc8"), ("aam", "d40a"), ("daa", "27"), ("pushw 5", "6a05"),
    ("data32 retf", "66cb"), ("retfd", "66cb"), ("mov al, [si-1]", "8a44ff"),
)  # fmt: skip
"""Statements and their bytes where ``x`` is the address BASE, and the statement lies there."""


@pytest.mark.parametrize(("bits", "recorded"), [(16, IN_16), (32, IN_32)])
def test_statements(bits: int, recorded: tuple[tuple[str, str], ...]) -> None:
    """Each statement has GNU as's bytes, a branch its distance from the place where it stands."""
    lines = [f"x = {BASE:#x}\n.code{bits}\n", *(f"{statement}\n" for statement, _ in recorded)]
    image = assemble("".join(lines), "x.s", BASE)
    starts = {line: address for address, line in image.lines.items()}
    ends = [*sorted(starts.values())[1:], BASE + len(image.code)]
    for (statement, code), (start, end) in zip(
        recorded, zip(starts.values(), ends, strict=True), strict=True
    ):
        found = image.code[start - BASE : end - BASE]
        if statement.split()[0] in ("jmp", "call", "jz") and statement[-2:] == " x":
            insn = decode(found, bits)
            assert text(insn, start).endswith(" 0x1000"), statement
            assert insn.operand_size == bits // 8 or statement[0] == "j", statement
        else:
            assert found.hex() == code, statement


def test_modes_in_one_source() -> None:
    """NASM's `bits` and GNU's `.code` are the same; a far jump takes a size where it is not the
    mode's."""
    image = assemble(
        "bits 16\njmp dword 0x8:there\njmp 0x10:there\nbits 32\nthere: jmp word 0x8:there\n"
        ".code64\npush rax\n", "x.s", 0x7C00,
    )  # fmt: skip
    assert image.code.hex(" ") == "66 ea 0d 7c 00 00 08 00 ea 0d 7c 10 00 66 ea 0d 7c 08 00 50"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("bits 16\nmov si, 0x12345", "does not fit into 16 bits"),
        ("bits 32\npush rax", "push rax"), ("bits 32\nmov eax, [rip + 5]", "only 64-bit mode has"),
        ("bits 16\njmp byte 0x8:0", "jmp byte"), ("bits 64\njmp 0x8:0x1000", "no far jump to a number"),
        ("bits 20\nnop", "bits 20"), ("bits 32\npush qword 5", "a push here has 16 or 32 bits"),
    ],
)  # fmt: skip
def test_refused(line: str, reason: str) -> None:
    """A form that the mode does not have is refused."""
    with pytest.raises(InputError, match=reason):
        assemble(f"{line}\n", "x.s", BASE)
