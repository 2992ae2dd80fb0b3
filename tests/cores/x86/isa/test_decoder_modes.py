"""The decoder in 16- and 32-bit code: the same bytes are other instructions there."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import product
from pathlib import Path
from random import Random

import pytest

from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode, text
from cores.x86.isa.instruction import (
    Immediate,
    Instruction,
    MemoryOperand,
    Reason,
    Register,
    Sensitivity,
)
from cores.x86.registers import DS, ES, MASK64, RBP, RBX, RDI, RSI, RSP, SS, Flag, Vector

ORDINARY, PRIVILEGED = Sensitivity.ORDINARY, Sensitivity.PRIVILEGED
SILENT, ABSENT = Sensitivity.SILENT, Sensitivity.ABSENT


def one(code: str, bits: int) -> Instruction:
    return decode(bytes.fromhex(code).ljust(15, b"\0"), bits)


@pytest.mark.parametrize(
    ("code", "in64", "in32", "in16"),
    [
        ("40 90", "nop", "inc eax", "inc ax"),
        ("4f 90", "xchg r8, rax", "dec edi", "dec di"),
        ("66 43 c3", "ret", "inc bx", "inc ebx"),
        ("63 c8", "movsxd ecx, eax", "arpl ax, cx", "arpl ax, cx"),
        ("c4 03", "", "les eax, ptr [ebx]", "les ax, ptr [bp + di]"),
        ("62 03", "", "bound eax, qword ptr [ebx]", "bound ax, dword ptr [bp + di]"),
        ("c5 f8 77", "vzeroupper", "vzeroupper", "vzeroupper"),
        ("06", "", "push es", "push es"),
        ("60", "", "pushal", "pushaw"),
        ("82 c0 05", "", "add al, 5", "add al, 5"),
        ("d5 0a", "", "aad 0xa", "aad 0xa"),
        ("9a 78 56 34 12 08 00", "", "lcall 0x8:0x12345678", "lcall 0x1234:0x5678"),
        ("66 ea 34 12 08 00", "", "ljmp 0x8:0x1234", "ljmp 0x0:0x81234"),
        ("ff 2b", "ljmp ptr [rbx]", "ljmp ptr [ebx]", "ljmp [bp + di]"),
        ("a1 44 33 22 11 00 00 00 00", "movabs eax, dword ptr [0x11223344]",
         "mov eax, dword ptr [0x11223344]", "mov ax, word ptr [0x3344]"),
        ("8b 05 10 00 00 00", "mov eax, dword ptr [rip + 0x10]", "mov eax, dword ptr [0x10]",
         "mov ax, word ptr [di]"),
        ("67 8b 46 10", "mov eax, dword ptr [esi + 0x10]", "mov eax, dword ptr [bp + 0x10]",
         "mov ax, word ptr [esi + 0x10]"),
        ("e8 fb ff ff ff", "call 0x1000", "call 0x1000", "call 0xffe"),
        ("66 0f 84 00 01 00 00", "je 0x1107", "je 0x1105", "je 0x1107"),
        ("e3 fe", "jrcxz 0x1000", "jecxz 0x1000", "jcxz 0x1000"),
        ("9c", "pushfq", "pushfd", "pushf"),
        ("0f 20 c0", "mov rax, cr0", "mov eax, cr0", "mov eax, cr0"),
        ("2e 75 0a", "jne 0x100d", "jne 0x100d", "jne 0x100d"),
        ("26 a5", "movsd dword ptr [rdi], dword ptr [rsi]",
         "movsd dword ptr es:[edi], dword ptr es:[esi]", "movsw word ptr es:[di], word ptr es:[si]"),
        ("66 0f 7c 07", "haddpd xmm0, xmmword ptr [rdi]", "haddpd xmm0, xmmword ptr [edi]",
         "haddpd xmm0, xmmword ptr [bx]"),
    ],
)  # fmt: skip
def test_same_bytes(code: str, in64: str, in32: str, in16: str) -> None:
    """Each width of code reads the bytes in its own way; "" is #UD."""
    for bits, wanted in ((64, in64), (32, in32), (16, in16)):
        if wanted:
            assert text(one(code, bits), 0x1000) == wanted
        else:
            with pytest.raises(GuestFault) as fault:
                one(code, bits)
            assert fault.value.vector == Vector.UD


@pytest.mark.parametrize(
    ("code", "bits", "operands"),
    [
        ("8b 44 8b f0", 32, (Register("eax", 4), MemoryOperand(DS, RBX, 1, 4, -16, False, 4, 4, 32))),
        ("36 8b 04 24", 32, (Register("eax", 4), MemoryOperand(SS, RSP, None, 1, 0, False, 4, 4, 32))),
        ("3e 8b 45 00", 32, (Register("eax", 4), MemoryOperand(DS, RBP, None, 1, 0, False, 4, 4, 32))),
        ("8b 02", 16, (Register("ax", 2), MemoryOperand(SS, RBP, RSI, 1, 0, False, 2, 2, 16))),
        ("8b 16 00 b8", 16,
         (Register("dx", 2), MemoryOperand(DS, None, None, 1, -0x4800, False, 2, 2, 16))),
        ("26 d7", 16, (MemoryOperand(ES, RBX, None, 1, 0, False, 1, 2, 16),)),
        ("26 64 a4", 16, (MemoryOperand(ES, RDI, None, 1, 0, False, 1, 2, 16),
                          MemoryOperand(4, RSI, None, 1, 0, False, 1, 2, 16))),
        ("ea 00 7c c0 07", 16, (Immediate(0x7C0, 2), Immediate(0x7C00, 2))),
        ("6a 80", 16, (Immediate(MASK64 - 0x7F, 1),)),
    ],
)  # fmt: skip
def test_operands(code: str, bits: int, operands: tuple[object, ...]) -> None:
    """Every segment counts outside 64-bit code: the default, or the last override."""
    assert one(code, bits).operands == operands


@pytest.mark.parametrize(
    ("code", "bits", "operand", "address"),
    [
        ("50", 32, 4, 4), ("66 50", 32, 2, 4), ("50", 16, 2, 2), ("66 50", 16, 4, 2), ("c9", 16, 2, 2),
        ("c3", 32, 4, 4), ("66 c3", 32, 2, 4), ("c3", 16, 2, 2), ("cf", 16, 2, 2), ("66 cf", 16, 4, 2),
        ("a5", 16, 2, 2), ("67 66 a5", 16, 4, 4), ("ed", 16, 2, 2), ("66 ed", 16, 4, 2),
        ("e0 fe", 16, 2, 2), ("67 e0 fe", 16, 2, 4), ("0f 22 d8", 16, 4, 2), ("63 00", 32, 2, 4),
        ("d4 0a", 32, 1, 4), ("0f 01 13", 32, 4, 4),
    ],
)  # fmt: skip
def test_sizes(code: str, bits: int, operand: int, address: int) -> None:
    """Operand and address size: the segment's default, or the other one by prefix, branches and the
    stack included."""
    insn = one(code, bits)
    assert (insn.operand_size, insn.address_size) == (operand, address)


@pytest.mark.parametrize(
    ("code", "bits", "size"),
    [
        ("0f 01 13", 32, 6), ("0f 01 16 00 10", 16, 6), ("c4 03", 32, 6), ("c4 07", 16, 4),
        ("62 03", 32, 8), ("ff 2b", 32, 6), ("d9 33", 32, 28), ("d9 33", 16, 14), ("66 d9 33", 16, 28),
        ("0f ae 03", 32, 512), ("dd 33", 16, 94),
    ],
)  # fmt: skip
def test_memory_operand_sizes(code: str, bits: int, size: int) -> None:
    """Table registers take 6 bytes, far pointers the offset and a selector."""
    assert [o.size for o in one(code, bits).operands if isinstance(o, MemoryOperand)] == [size]


@pytest.mark.parametrize(
    ("code", "mnemonic", "sensitivity", "reason"),
    [
        ("1f", "pop", SILENT, Reason.SEGMENT), ("0e", "push", SILENT, Reason.SEGMENT),
        ("c5 03", "lds", SILENT, Reason.SEGMENT),
        ("ea 00 00 00 00 08 00", "ljmp", SILENT, Reason.SEGMENT),
        ("63 c8", "arpl", SILENT, Reason.DESCRIPTOR), ("ce", "into", PRIVILEGED, Reason.EXCEPTION),
        ("0f 05", "syscall", ABSENT, Reason.SYSCALL), ("0f 07", "sysret", ABSENT, Reason.SYSCALL),
        ("0f 34", "sysenter", ABSENT, Reason.SYSCALL),
        ("c5 f8 77", "vzeroupper", ABSENT, Reason.EXCEPTION),
        ("62 f1 7c 48 58 c1", "vaddps", ABSENT, Reason.EXCEPTION), ("60", "pusha", ORDINARY, None),
        ("62 03", "bound", ORDINARY, None), ("27", "daa", ORDINARY, None),
        ("9d", "popf", SILENT, Reason.FLAGS),
        ("cd 80", "int", PRIVILEGED, Reason.INT), ("66 cf", "iret", SILENT, Reason.IRET),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bits", [16, 32])
def test_classification(
    code: str, mnemonic: str, sensitivity: Sensitivity, reason: Reason | None, bits: int
) -> None:
    """Loads of segment registers are sensitive however they are spelled, and SYSCALL is lacking."""
    insn = one(code, bits)
    assert (insn.mnemonic, insn.sensitivity, insn.reason) == (mnemonic, sensitivity, reason)


def test_no_swapgs_outside_64_bit_code() -> None:
    """SWAPGS is #UD in 16- and 32-bit code."""
    assert one("0f 01 f8", 64).mnemonic == "swapgs"
    with pytest.raises(GuestFault):
        one("0f 01 f8", 32)


@pytest.mark.parametrize(
    ("code", "flags"),
    [("37", Flag.OF | Flag.SF | Flag.ZF | Flag.PF), ("27", Flag.OF),
     ("d4 0a", Flag.OF | Flag.AF | Flag.CF), ("60", 0)],
)  # fmt: skip
def test_decimal_arithmetic_leaves_flags_undefined(code: str, flags: int) -> None:
    """AAA, DAA, AAM and their kin have undefined flags (SDM vol. 2)."""
    assert one(code, 32).undefined == flags


def test_what_differs_between_cpus_in_64_bit_code_alone() -> None:
    """A near branch with prefix 66 is truncated by every CPU in 32-bit code."""
    assert one("66 c3", 64).varies
    assert not one("66 c3", 32).varies


@pytest.mark.parametrize("bits", [16, 32])
def test_random_bytes_never_break_the_decoder(bits: int) -> None:
    """Random bytes decode to an instruction, or are #UD."""
    random, vectors = Random(bits), set()
    for _ in range(10_000):
        code = random.randbytes(15)
        try:
            insn = decode(code, bits)
        except GuestFault as fault:
            vectors.add(fault.vector)
            continue
        assert code.startswith(insn.code)
        assert decode(insn.code, bits) is insn
        assert insn.bits == bits
        assert text(insn, 0x1000)
    assert vectors == {Vector.UD}


@pytest.mark.parametrize("bits", [16, 32])
def test_truncated(bits: int) -> None:
    """A cut instruction is Truncated, so that the next page is fetched."""
    for code in ("ea 00 00 08", "c4", "62", "81 06 00 10", "66 b8 00"):
        with pytest.raises(Truncated):
            decode(bytes.fromhex(code), bits)


# --- against GNU binutils -------------------------------------------------------------------------

_SLOT = 32
_SEEN = re.compile(r"\s*([0-9a-f]+):\t([0-9a-f ]+?)\s*\t(.*)")
_OTHERS = {"wait", "vmread"}
"""FWAIT, which objdump reads as a prefix; and where it shows SSE4a's INSERTQ."""


def _forms(bits: int) -> list[bytes]:
    opcodes = [bytes([op]) for op in range(256) if op not in bytes.fromhex("262e363e64656667f0f2f30f")]
    opcodes += [bytes([0x0F, op]) for op in range(256) if op not in (0x38, 0x3A)]
    modrm = [0x06, 0x46, 0x86, 0x05, 0x44, 0xC3, 0xDA]
    forms = product(("", "66", "67", "f3", "66 67"), opcodes, modrm)
    tail = bytes.fromhex("2411223344556677")
    whole = [(bytes.fromhex(prefix) + op + bytes([m]) + tail)[:15] for prefix, op, m in forms]
    return Random(bits).sample(whole, 4000)


@pytest.mark.parametrize(("bits", "machine"), [(16, "i8086"), (32, "i386")])
def test_lengths_are_those_of_objdump(bits: int, machine: str, tmp_path: Path) -> None:
    """Each instruction that both know has as many bytes for GNU objdump."""
    if shutil.which("objdump") is None:
        pytest.skip("GNU binutils are not installed")
    forms = _forms(bits)
    image = tmp_path / "forms"
    image.write_bytes(b"".join(form.ljust(_SLOT, b"\x90") for form in forms))
    listing = subprocess.run(
        ["objdump", "-D", "-b", "binary", "-m", machine, "-w", "--insn-width=16", image],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    seen = {int(m[1], 16): m for m in map(_SEEN.match, listing.splitlines()) if m}
    compared = 0
    for at, form in zip(range(0, _SLOT * len(forms), _SLOT), forms, strict=True):
        try:
            insn = decode(form.ljust(15, b"\x90"), bits)
        except GuestFault:
            continue
        if "(bad)" not in seen[at][3] and insn.mnemonic not in _OTHERS:
            assert insn.length == len(seen[at][2].split()), f"{form.hex(' ')}: {seen[at][3]}"
            compared += 1
    assert compared > 3000
