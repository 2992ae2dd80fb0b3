"""The x87 environment of FNSTENV and FNSAVE: conversion from an FXSAVE64 image, and back.

The VMM completes the instructions that store or load x87's state as a whole, since CPUs differ in them
(cores/x86/isa/cpu_differences.py). All functions are pure: images in, images out.
Layouts: SDM vol. 1, figures 8-9 and 8-11 (environment) and table 10-2 (FXSAVE64 image).
"""

from __future__ import annotations

import struct

from cores.x86.isa.instruction import Instruction, Register

IMAGE = 512
STORED = 416
"""Bytes of an FXSAVE image that the CPU writes; the rest is reserved or the software's."""
MXCSR_MASK = 0xFFFF
"""Bits of MXCSR that the platform has: DAZ, and none of AMD's."""
_MXCSR = 24
_SSE_MASKS = 0x1F80
_CONTROL_BITS, _CONTROL_SET = 0x1F3F, 0x0040
"""Loadable bits of FCW, and its bit that always reads 1; 7 and 13-15 always read 0."""
_EXCEPTIONS, _SUMMARY, _TOP = 0x3F, 0x8080, 0x3800
"""IE to PE, masks in FCW and flags in FSW; ES and B of FSW, set while an unmasked exception is pending;
TOP."""
_STOPS_COMPARISON, _COMPARED = 0x03, 0x4500
"""IE and DE; C3, C2 and C0."""
_POINTERS = slice(6, 24)
"""FOP, FIP and FDP in an image."""
_INITIAL = struct.pack("<HHBxHQQ", 0x37F, 0, 0, 0, 0, 0)
VALID, ZERO, SPECIAL, EMPTY = range(4)


def pending(image: bytes) -> bool:
    """Whether an unmasked x87 exception is pending, so that a waiting x87 instruction raises #MF
    (FSW.ES)."""
    return bool(image[2] & 0x80)


def opcode_of(image: bytes) -> int:
    """FOP, the opcode of the last x87 instruction: the low 3 bits of its first byte, and ModRM."""
    return int(struct.unpack_from("<H", image, 6)[0]) & 0x7FF


def instruction_pointer(image: bytes) -> int:
    return int(struct.unpack_from("<Q", image, 8)[0])


def with_opcode(image: bytes, value: int) -> bytes:
    return image[:6] + struct.pack("<H", value) + image[8:]


def lawful(image: bytes) -> bytes:
    """The image as a CPU holds it after loading it: reserved bits of FCW corrected, ES and B computed
    from exceptions and masks, pointers kept only where an unmasked exception is pending."""
    result = bytearray(image)
    control, status = struct.unpack_from("<HH", image)
    control = control & _CONTROL_BITS | _CONTROL_SET
    status &= ~_SUMMARY
    if status & ~control & _EXCEPTIONS:
        status |= _SUMMARY
    else:
        result[_POINTERS] = bytes(18)
    struct.pack_into("<HH", result, 0, control, status)
    result[5] = 0
    result[28:32] = struct.pack("<I", MXCSR_MASK)
    return bytes(result)


def fxsave_image(image: bytes, *, wide: bool) -> bytes:
    """The bytes that FXSAVE stores of a lawful image. wide: FXSAVE64, with pointers of 64 bits."""
    result = bytearray(image[:STORED])
    if not wide:  # 32-bit offsets, and selectors that CPUs have deprecated
        result[12:16] = result[20:24] = bytes(4)
    return bytes(result)


def fxrstor_image(stored: bytes, *, wide: bool) -> bytes:
    """The lawful image that FXRSTOR loads from 512 bytes."""
    result = bytearray(stored[:STORED].ljust(IMAGE, b"\0"))
    if not wide:
        result[12:16] = result[20:24] = bytes(4)
    for at in range(32, 160, 16):
        result[at + 10 : at + 16] = bytes(6)
    return lawful(bytes(result))


def mxcsr(image: bytes) -> int:
    return int(struct.unpack_from("<I", image, _MXCSR)[0])


def sse_masked(image: bytes) -> bool:
    """Whether MXCSR masks all exceptions."""
    return mxcsr(image) & _SSE_MASKS == _SSE_MASKS


def unmasked_sse(image: bytes, raised: int) -> int:
    """Of the exceptions that an SSE instruction has raised, those that MXCSR records where one of them
    is not masked, so that #XM follows; 0 where all are. After an unmasked #I, #D or #Z nothing is
    computed, and #O, #U and #P are not looked for (SDM vol. 1, 11.5.3)."""
    unmasked = ~(mxcsr(image) >> 7) & _EXCEPTIONS
    first = raised & 0x07
    return first if first & unmasked else raised if raised & unmasked else 0


def with_mxcsr(image: bytes, value: int) -> bytes:
    return image[:_MXCSR] + struct.pack("<I", value) + image[_MXCSR + 4 :]


def environment(image: bytes, *, short: bool) -> bytes:
    """The 28 bytes (short, with prefix 66: 14) that FNSTENV stores of a lawful image."""
    control, status, _, opcode, instruction, data = struct.unpack_from("<HHBxHQQ", image)
    tags = _full_tags(image)
    if short:
        return struct.pack("<7H", control, status, tags, instruction & 0xFFFF, 0, data & 0xFFFF, 0)
    return struct.pack(
        "<HHHHHHIHHIHH",
        control, 0xFFFF, status, 0xFFFF, tags, 0xFFFF,
        instruction & 0xFFFFFFFF, 0, opcode & 0x7FF, data & 0xFFFFFFFF, 0, 0xFFFF,
    )  # fmt: skip


def with_environment(image: bytes, stored: bytes) -> bytes:
    """The lawful image after FLDENV has loaded 28 or 14 bytes."""
    opcode = 0
    if len(stored) == 14:
        control, status, tags, instruction, _, data, _ = struct.unpack("<7H", stored)
    else:
        control, status, tags, instruction, opcode, data = struct.unpack_from("<HxxHxxHxxIxxHI", stored)
    abridged = sum(1 << i for i in range(8) if tags >> 2 * i & 3 != EMPTY)
    head = struct.pack("<HHBxHQQ", control, status, abridged, opcode & 0x7FF, instruction, data)
    # ST(i) of the image is numbered from TOP: the registers stay, TOP may move.
    numbered = _by_number(image)
    return lawful(head + image[24:32] + _by_top(numbered, status) + image[160:])


def registers(image: bytes) -> bytes:
    """The 80 bytes behind the environment that FNSAVE stores: ST(0) to ST(7)."""
    return b"".join(image[at : at + 10] for at in range(32, 160, 16))


def with_registers(image: bytes, stored: bytes) -> bytes:
    """The image after FRSTOR has loaded these 80 bytes."""
    padded = b"".join(stored[at : at + 10] + bytes(6) for at in range(0, 80, 10))
    return image[:32] + padded + image[160:]


def initialized(image: bytes) -> bytes:
    """The image after FNINIT, which leaves the registers' contents, numbered from TOP 0."""
    return _INITIAL + image[24:32] + _by_top(_by_number(image), 0) + image[160:]


def all_masked(image: bytes) -> bytes:
    """The image after FNSTENV has masked all x87 exceptions."""
    return lawful(bytes([image[0] | _EXCEPTIONS]) + image[1:])


def after_mmx(insn: Instruction, before: bytes, after: bytes) -> bytes:
    """The image after an MMX instruction: TOP is 0 and every register in use, after EMMS none (SDM vol.
    3, table 13-1). CVTPI2PD of memory leaves both alone; so does CVTPI2PS of memory on AMD's CPUs, but
    not on Intel's (SDM vol. 2), nor here. The exponent of a register that is written is all ones
    (vol. 3, 13.2), which Unicorn omits. before, after: the engine's images."""
    status, tags = 0, 0 if insn.mnemonic == "emms" else 0xFF
    if insn.mnemonic == "cvtpi2pd" and insn.access:
        status, tags = int.from_bytes(before[2:4], "little") & _TOP, before[4]
    status |= int.from_bytes(after[2:4], "little") & ~_TOP
    numbered = _by_number(after)
    if (written := _mmx_destination(insn)) is not None:
        register = numbered[written]
        numbered[written] = register[:8] + b"\xff\xff" + register[10:]
    moved = _by_top(numbered, status)
    return after[:2] + struct.pack("<HB", status, tags) + after[5:32] + moved + after[160:]


def _mmx_destination(insn: Instruction) -> int | None:
    """The number of the MMX register that the instruction writes."""
    first = insn.operands[0] if insn.operands else None
    if not isinstance(first, Register) or not first.name.startswith("mm"):
        return None
    return None if insn.mnemonic == "maskmovq" else int(first.name[2:])


def after_comparison(before: bytes, after: bytes) -> bytes:
    """The image after an x87 comparison: one that raises an unmasked #IA or #D sets neither C3, C2 and
    C0 nor ZF, PF and CF. AMD's CPUs set them. ``after`` itself where that is not so."""
    control, status = struct.unpack_from("<HH", before)
    now = int.from_bytes(after[2:4], "little")
    if not now & ~status & ~control & _STOPS_COMPARISON:
        return after
    return after[:2] + struct.pack("<H", now & ~_COMPARED | status & _COMPARED) + after[4:]


def _by_number(image: bytes) -> list[bytes]:
    """R0 to R7, 16 bytes each."""
    top = image[3] >> 3 & 7
    return [image[at : at + 16] for at in (32 + 16 * (number - top & 7) for number in range(8))]


def _by_top(numbered: list[bytes], status: int) -> bytes:
    top = status >> 11 & 7
    return b"".join(numbered[top + i & 7] for i in range(8))


def _full_tags(image: bytes) -> int:
    """The tag word from the abridged one and the registers' contents (SDM vol. 2, FXSAVE)."""
    tags = 0
    for number, register in enumerate(_by_number(image)):
        tags |= (_tag(register) if image[4] >> number & 1 else EMPTY) << 2 * number
    return tags


def _tag(register: bytes) -> int:
    mantissa, exponent = struct.unpack_from("<QH", register)
    exponent &= 0x7FFF
    if not exponent:
        return SPECIAL if mantissa else ZERO
    return SPECIAL if exponent == 0x7FFF or not mantissa >> 63 else VALID
