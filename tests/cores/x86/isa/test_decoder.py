"""The decoder: valid instructions, their length, and their attributes."""

from __future__ import annotations

from random import Random

import pytest

from cores.x86.faults import GuestFault
from cores.x86.isa import decoder as module
from cores.x86.isa.decoder import Truncated, decode, text
from cores.x86.isa.instruction import Immediate, MemoryOperand, Reason, Register, Sensitivity
from cores.x86.registers import DS, ES, FS, MASK64, RAX, RBX, RDI, RSI, RSP, SS, Vector

ORDINARY, PRIVILEGED = Sensitivity.ORDINARY, Sensitivity.PRIVILEGED
SILENT, ABSENT = Sensitivity.SILENT, Sensitivity.ABSENT


def one(code: str) -> module.Instruction:
    return decode(bytes.fromhex(code))


@pytest.mark.parametrize(
    "code",
    [
        "06", "27", "60", "62 00", "82 00 00", "9a", "ce", "d4 0a", "d6", "ea",  # gone in 64-bit mode
        "f0 01 c0", "f0 89 03", "f0 80 3b 00", "f0 0f a3 03", "f0 90",  # LOCK where it may not be
        "8e c8", "8e f0", "8c f0", "0f 22 c8", "0f 20 e8", "44 0f 22 c8",  # registers
        "fe d0", "ff f8", "ff d8", "8d c0", "0f ba c0 01", "0f 00 f0", "0f c7 c8", "8f c8",  # groups
        "0f 0e", "0f 0f c0 9e", "0f 24 c0", "0f b8 c0", "0f a6 c0", "d9 08", "d9 d1", "dd f0",
        "66 0f 13 c0", "f3 0f 54 c0", "66 0f ae 03", "f3 0f 38 00 c0", "0f 38 10 c0", "0f 71 c0 01",
    ],
)  # fmt: skip
def test_what_no_cpu_has_is_undefined_opcode(code: str) -> None:
    """Encodings that 64-bit CPUs lack are #UD, though Capstone accepts many of them."""
    with pytest.raises(GuestFault) as fault:
        decode(bytes.fromhex(code).ljust(15, b"\0"))
    assert (fault.value.vector, fault.value.error) == (Vector.UD, None)


@pytest.mark.parametrize(
    ("code", "mnemonic"),
    [
        ("dc d0", "fcom"), ("dd c8", "fxch"), ("df d8", "fstp"), ("d9 d8", "fstp"),
        ("f6 c8 01", "test"), ("f7 0b 01 00 00 00", "test"), ("c0 f0 01", "shl"), ("66 f3 90", "pause"),
        ("f3 0f 1e fa", "nop"), ("0f 1a 03", "nop"), ("f3 0f 1e c8", "nop"), ("0f 0d c0", "nop"),
        ("0f 18 f8", "nop"), ("0f ae e9", "lfence"), ("f3 0f 09", "wbinvd"), ("0f 20 00", "mov"),
        ("66 48 c2 08 00", "ret"), ("2e f3 48 c3", "ret"), ("66 48 ff 33", "push"),
    ],
)  # fmt: skip
def test_what_capstone_does_not_know(code: str, mnemonic: str) -> None:
    """Alternative encodings, hint NOPs and meaningless prefixes are instructions, as on real CPUs."""
    insn = one(code)
    assert (insn.mnemonic, insn.length) == (mnemonic, len(bytes.fromhex(code)))


@pytest.mark.parametrize(
    "code", ["48 b8 88 77 66 55 44 33 22 11", "66 f2 0f 38 f1 84 24 00 00 00 01", "c8 10 00 03",
             "0f 3a", "f0 48 0f c7 8c 88 00 01 00 00", "66 0f 3a 16 44 24 08 01"],
)  # fmt: skip
def test_truncated_at_every_length(code: str) -> None:
    """An instruction cut at any length is Truncated, so that the next page is fetched."""
    whole = bytes.fromhex(code)
    for length in range(len(whole) if code != "0f 3a" else 3):
        with pytest.raises(Truncated):
            decode(whole[:length])


def test_more_than_fifteen_bytes_is_general_protection() -> None:
    """More than 15 bytes, redundant prefixes included, are #GP (SDM vol. 2, 2.3.11)."""
    assert decode(b"\x66" * 14 + b"\x90").length == 15
    with pytest.raises(GuestFault) as fault:
        decode(b"\x66" * 15 + b"\x90")
    assert (fault.value.vector, fault.value.error) == (Vector.GP, 0)
    with pytest.raises(Truncated):
        decode(b"\x66" * 14)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("e8 fb ff ff ff", "call 0x1000"), ("eb 10", "jmp 0x1012"), ("0f 84 00 01 00 00", "je 0x1106"),
        ("c8 00 80 03", "enter 0x8000, 0x3"), ("48 8d 05 10 00 00 00", "lea rax, [rip + 0x10]"),
        ("e6 e9", "out 0xe9, al"), ("f3 48 a5", "rep movsq qword ptr [rdi], qword ptr [rsi]"),
        ("48 cf", "iretq"), ("f0 48 0f b1 0b", "lock cmpxchg qword ptr [rbx], rcx"),
    ],
)  # fmt: skip
def test_text(code: str, shown: str) -> None:
    """The text has Intel syntax, with absolute branch targets at every address."""
    assert text(one(code), 0x1000) == shown


def test_branch_text_wraps() -> None:
    """The target of a branch past the end of the address space wraps, as on the CPU."""
    assert text(one("eb f0"), 0) == "jmp 0xfffffffffffffff2"


@pytest.mark.parametrize(
    ("code", "operands"),
    [
        ("83 e0 80", (Register("eax", 4), Immediate(MASK64 - 0x7F, 1))),
        ("e4 e9", (Register("al", 1), Immediate(0xE9, 1))),
        ("c1 e0 ff", (Register("eax", 4), Immediate(0xFF, 1))),
        ("c2 fc ff", (Immediate(0xFFFC, 2),)),
        ("d1 e0", (Register("eax", 4), Immediate(1, 1))),
        ("64 8b 44 8b f0",
         (Register("eax", 4), MemoryOperand(FS, RBX, 1, 4, -16, False, 4, 8))),
        ("8b 04 24", (Register("eax", 4), MemoryOperand(SS, RSP, None, 1, 0, False, 4, 8))),
        ("67 8b 00", (Register("eax", 4), MemoryOperand(DS, RAX, None, 1, 0, False, 4, 4))),
        ("a0 88 77 66 55 44 33 22 11",
         (Register("al", 1), MemoryOperand(DS, None, None, 1, 0x1122334455667788, False, 1, 8))),
        ("64 a4", (MemoryOperand(ES, RDI, None, 1, 0, False, 1, 8),
                   MemoryOperand(FS, RSI, None, 1, 0, False, 1, 8))),
        ("66 6f", (Register("dx", 2), MemoryOperand(DS, RSI, None, 1, 0, False, 2, 8))),
        ("af", (Register("eax", 4), MemoryOperand(ES, RDI, None, 1, 0, False, 4, 8))),
    ],
)  # fmt: skip
def test_operands(code: str, operands: tuple[object, ...]) -> None:
    """Operands have register names, and memory and immediates as encoded, with their signs."""
    assert one(code).operands == operands


@pytest.mark.parametrize(
    ("code", "size"),
    [
        ("0f ae 03", 512), ("48 0f ae 0b", 512), ("d9 33", 28), ("66 d9 33", 14), ("dd 33", 108),
        ("66 48 dd 33", 108), ("db 3b", 10), ("df 33", 10), ("dd 3b", 2), ("66 0f 2f 03", 8),
        ("66 63 03", 2), ("48 63 03", 4), ("ff 1b", 6), ("48 ff 1b", 10), ("0f c7 0b", 8),
        ("48 0f c7 0b", 16), ("0f 01 03", 10), ("66 0f 3a 14 03 00", 1), ("0f c5 c0 00", 0),
    ],
)  # fmt: skip
def test_memory_operand_sizes(code: str, size: int) -> None:
    """Sizes that a disassembler gets wrong, or that depend on prefixes, are right (checked on a real
    CPU)."""
    found = [o.size for o in one(code).operands if isinstance(o, MemoryOperand)]
    assert found == ([size] if size else [])


@pytest.mark.parametrize(
    ("code", "access"),
    [
        ("0f b1 0b", "rw"), ("0f c3 0b", "w"), ("0f 29 03", "w"), ("0f 28 03", "r"), ("d9 1b", "w"),
        ("d9 03", "r"), ("0f ae 03", "w"), ("0f ae 0b", "r"), ("c0 03 04", "rw"), ("0f ba 23 01", "r"),
        ("0f ba 2b 01", "rw"), ("66 0f 3a 16 03 00", "w"), ("f3 0f 7e 03", "r"), ("66 0f 7e 03", "w"),
        ("48 8d 03", ""), ("0f 1f 03", ""), ("ff 33", "r"), ("8f 03", "w"), ("39 03", "r"),
        ("83 3b 00", "r"), ("01 03", "rw"), ("f7 23", "r"), ("f7 13", "rw"), ("0f 94 03", "w"),
        ("0f 44 03", "r"), ("87 03", "rw"), ("f2 0f 38 f1 03", "r"), ("0f e7 03", "w"), ("89 c3", ""),
    ],
)  # fmt: skip
def test_access(code: str, access: str) -> None:
    """Reads and writes of a memory operand, which decide its fault and its comparison, are known."""
    assert one(code).access == access


@pytest.mark.parametrize(
    ("code", "mnemonic", "sensitivity", "reason"),
    [
        ("f3 6e", "outs", PRIVILEGED, Reason.IO), ("66 6d", "ins", PRIVILEGED, Reason.IO),
        ("44 0f 22 c0", "mov", PRIVILEGED, Reason.CR), ("0f 21 f8", "mov", PRIVILEGED, Reason.STATE),
        ("8c c8", "mov", SILENT, Reason.SEGMENT), ("0f a8", "push", SILENT, Reason.SEGMENT),
        ("89 c8", "mov", ORDINARY, None), ("53", "push", ORDINARY, None),
        ("ff 2b", "ljmp", SILENT, Reason.SEGMENT), ("ff 23", "jmp", ORDINARY, None),
        ("48 cb", "retf", SILENT, Reason.SEGMENT), ("66 9d", "popf", SILENT, Reason.FLAGS),
        ("f3 0f bc c1", "bsf", SILENT, Reason.STATE), ("f3 0f bd c1", "bsr", SILENT, Reason.STATE),
        ("0f bc c1", "bsf", ORDINARY, None), ("c5 f8 77", "vzeroupper", ABSENT, Reason.EXCEPTION),
        ("0f c7 f0", "rdrand", ABSENT, Reason.EXCEPTION),
        ("0f 38 f0 03", "movbe", ABSENT, Reason.EXCEPTION),
        ("f3 48 0f ae d0", "wrfsbase", ABSENT, Reason.MSR), ("0f 0b", "ud2", ORDINARY, None),
        ("f3 0f b8 c1", "popcnt", ORDINARY, None), ("f2 0f 38 f0 c1", "crc32", ORDINARY, None),
    ],
)  # fmt: skip
def test_classification(
    code: str, mnemonic: str, sensitivity: Sensitivity, reason: Reason | None
) -> None:
    """Sensitivity and reason come from the table of sensitive instructions, by the kinds of the
    operands."""
    insn = one(code)
    assert (insn.mnemonic, insn.sensitivity, insn.reason) == (mnemonic, sensitivity, reason)


@pytest.mark.parametrize(
    ("code", "size"),
    [("e5 10", 4), ("48 ed", 4), ("66 ef", 2), ("6c", 1), ("cf", 4), ("48 cf", 8), ("9c", 8),
     ("66 9c", 2), ("0f 20 c0", 8), ("66 e8 00 00 00 00", 8),
     ("ff 33", 8), ("66 ff 33", 2), ("0f 01 13", 8), ("84 c0", 1)],
)  # fmt: skip
def test_operand_size(code: str, size: int) -> None:
    """The operand size has 64-bit mode's three defaults: 32 bits, 64 bits for the stack, and none of
    these for ports."""
    assert one(code).operand_size == size


@pytest.mark.parametrize(
    ("code", "floating", "ends"),
    [("0f 57 c0", True, False), ("d9 c0", True, False), ("9b", True, False), ("0f 77", True, False),
     ("0f ae 13", True, False), ("0f ae f0", False, False), ("0f c3 03", False, False),
     ("c3", False, True), ("74 00", False, True), ("f4", False, True), ("cd 20", False, True),
     ("0f 05", False, True), ("ff e0", False, True), ("ff c0", False, False), ("0f a2", False, False)],
)  # fmt: skip
def test_floating_and_block_ends(code: str, floating: bool, ends: bool) -> None:
    """Instructions that depend on CR0.TS, and those behind which a scan must stop, are marked."""
    insn = one(code)
    assert (insn.floating, insn.ends_block) == (floating, ends)


def test_prefixes_count_only_where_they_mean_something() -> None:
    """F3 before RET, F2 before JMP and a REX before another prefix change nothing."""
    assert one("f3 c3").repeat == ""
    assert one("f2 e9 00 00 00 00").mnemonic == "jmp"
    assert (one("f2 a6").repeat, one("f3 ac").repeat) == ("repne", "rep")
    assert one("48 66 01 c0").operand_size == 2
    assert one("f0 ff 03").lock


def test_random_bytes_never_break_the_decoder() -> None:
    """Random bytes decode to an instruction or to one of the three errors."""
    random, vectors = Random(1), set()
    for _ in range(20_000):
        code = random.randbytes(15)
        try:
            insn = decode(code)
        except GuestFault as fault:
            vectors.add(fault.vector)
            continue
        assert code.startswith(insn.code)
        assert decode(insn.code) == insn
        assert text(insn, 0x1000)
        if insn.sensitivity is not ABSENT and insn.access:
            assert sum(isinstance(o, MemoryOperand) for o in insn.operands) == 1
    assert vectors == {Vector.UD}


def test_cache_is_bounded_and_shares_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes behind an instruction do not make another cache entry, and a scan of RAM does not fill
    memory."""
    assert decode(bytes.fromhex("90 00")) is decode(bytes.fromhex("90 01"))
    monkeypatch.setattr(module, "CACHE_SIZE", 16)
    for n in range(64):
        decode(bytes((0xB0, n)))
    assert 0 < sum(map(len, module._windows.values())) <= 16
    assert len(module._instructions) <= 16


def test_earlier_instructions_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """An instruction is decoded as if it were the first, whichever with the same opcode, registers or
    addressing mode have been decoded before, in code of each width."""
    random = Random(2)
    prefixes = [
        bytes.fromhex(p) for p in ("", "", "66", "67", "f3", "f2", "48", "41", "4c", "6467", "40")
    ]
    codes = []
    for opcode in range(0x100):
        for escape in ("", "0f", "0f38", "0f3a"):
            start = random.choice(prefixes) + bytes.fromhex(escape) + bytes([opcode])
            codes += [(start + random.randbytes(12))[: random.choice((15, 15, 6))] for _ in range(4)]
    for bits in (64, 32, 16):
        warm = [_outcome(code, bits) for code in codes]
        for code, met in zip(codes, warm, strict=True):
            for name in ("_windows", "_heads"):
                monkeypatch.setattr(module, name, {bits: {}})
            for name in ("_shapes", "_instructions"):
                monkeypatch.setattr(module, name, {})
            assert _outcome(code, bits) == met, (code.hex(), bits)
        monkeypatch.undo()


def _outcome(code: bytes, bits: int) -> object:
    try:
        return decode(code, bits)
    except GuestFault as fault:
        return fault.vector, fault.error
    except Truncated:
        return None


@pytest.mark.parametrize(
    ("code", "plain"),
    [
        ("48 01 d8", True), ("48 89 03", True), ("c3", True), ("ff 30", True), ("75 fe", True),
        ("f3 a4", False), ("e8 00 00 00 00", False), ("ff 13", False),  # repeated; a CALL's target
        ("0f 28 03", False), ("d9 c0", False), ("0f 53 c1", False),  # SSE, x87, an approximation
        ("0f 02 03", False), ("9c", False), ("f4", False), ("66 0f 38 dc c1", False),  # not ordinary
        ("48 9f", False), ("c2 00 90", False), ("f0 f7 1b", False), ("66 c8 00 00 00", False),
    ],
)  # fmt: skip
def test_plain_instructions_need_no_check(code: str, plain: bool) -> None:
    """No check before the step concerns a plain instruction, and every instruction that one concerns,
    those that Unicorn mistranslates included, is not plain."""
    assert one(code).plain is plain
