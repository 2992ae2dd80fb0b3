"""x87 results while #O, #U or #D is not masked (SDM vol. 1, 8.5.2, 8.5.4 and 8.5.5).

An unmasked overflow or underflow delivers to a register the rounded result with an exponent that is
moved by 24,576 into range; to memory it stores nothing. An unmasked denormal operand stops the
instruction before it computes. A translator has none of these: it delivers what a masked exception
leaves. So the four operations, FSCALE and the stores of reals are computed here, exactly and then
rounded once. Transcendental functions are left as they are. All functions are pure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

from cores.x86.isa.encoding import Encoding
from cores.x86.system.x87_stack import Effect, Stack

DENORMAL, OVERFLOW, UNDERFLOW, PRECISION = 0x02, 0x08, 0x10, 0x20
NEEDED = DENORMAL | OVERFLOW | UNDERFLOW
"""Exceptions that have to be masked for a translator's result to be right."""
_SUMMARY, _C1, _FLAGS = 0x8080, 0x0200, 0x3F
_INVALID_OR_DIVISION = 0x05
_BIAS, _MOVED, _TOP_EXPONENT = 16383, 24576, 0x7FFE
_PRECISIONS = {0: 24, 2: 53, 3: 64}
_NEAREST, _DOWN, _UP, _CHOP = range(4)


@dataclass(frozen=True, slots=True)
class Operand:
    """A number: its value, its sign, for a zero too, and whether it is denormal. An infinity has the
    value None."""

    value: Fraction | None
    negative: bool
    denormal: bool


@dataclass(frozen=True, slots=True)
class Rounded:
    """value = significand * 2**exponent, rounded; up: away from zero. inexact: it had to be rounded."""

    significand: int
    exponent: int
    inexact: bool
    up: bool


def register(value: bytes) -> Operand | None:
    """The number in a register of 80 bits; None for a NaN or an unsupported format."""
    significand, head = struct.unpack("<QH", value)
    exponent, negative = head & 0x7FFF, bool(head >> 15)
    if exponent == 0x7FFF and significand == 1 << 63:
        return Operand(None, negative, False)
    if exponent == 0x7FFF or (exponent and not significand >> 63):
        return None
    magnitude = Fraction(significand) * Fraction(2) ** (max(exponent, 1) - _BIAS - 63)
    return Operand(-magnitude if negative else magnitude, negative, not exponent and significand != 0)


def real(data: bytes) -> Operand | None:
    """The number in memory, of 32 or 64 bits; None for a NaN."""
    bits, fraction_bits, bias = (32, 23, 127) if len(data) == 4 else (64, 52, 1023)
    word = int.from_bytes(data, "little")
    negative, fraction = bool(word >> bits - 1), word & (1 << fraction_bits) - 1
    exponent = word >> fraction_bits & 2 * bias + 1
    if exponent == 2 * bias + 1:
        return None if fraction else Operand(None, negative, False)
    significand = fraction | (1 << fraction_bits if exponent else 0)
    magnitude = Fraction(significand) * Fraction(2) ** (max(exponent, 1) - bias - fraction_bits)
    return Operand(-magnitude if negative else magnitude, negative, not exponent and fraction != 0)


def integer(data: bytes) -> Operand:
    value = int.from_bytes(data, "little", signed=True)
    return Operand(Fraction(value), value < 0, False)


def rounded(magnitude: Fraction, negative: bool, bits: int, mode: int) -> Rounded:
    """A positive number rounded to ``bits`` bits, with an exponent of any size. mode: FCW.RC."""
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length() - bits
    scaled = magnitude / Fraction(2) ** exponent
    while scaled >= 1 << bits:
        exponent, scaled = exponent + 1, scaled / 2
    significand = int(scaled)
    rest = scaled - significand
    half = Fraction(1, 2)
    up = bool(rest) and (
        (mode == _NEAREST and (rest > half or (rest == half and bool(significand & 1))))
        or (mode == _UP and not negative) or (mode == _DOWN and negative)
    )  # fmt: skip
    significand += up
    if significand >> bits:
        significand, exponent = significand >> 1, exponent + 1
    return Rounded(significand, exponent, bool(rest), up)


def is_unusual(e: Encoding, what: Effect, stack: Stack, memory: bytes) -> bool:
    """Whether a translator's exception flags would be wrong though all are masked: it never sets DE,
    and sets ZE at each divisor of 0, also of 0 and of an infinity. memory: the operand that is read."""
    heads = [struct.unpack("<QH", stack.get(i)) for i in what.reads]
    numbers = [(head & 0x7FFF, significand) for significand, head in heads]
    if memory and what.kind != "store":
        if len(memory) <= 8 and e.opcode in (0xD8, 0xD9, 0xDC, 0xDD):
            size, word = (23, 31) if len(memory) == 4 else (52, 63), int.from_bytes(memory, "little")
            numbers.append((word >> size[0] & (1 << size[1] - size[0]) - 1, word & (1 << size[0]) - 1))
        elif len(memory) <= 4:
            numbers.append((1, 0) if any(memory) else (0, 0))
    divides = e.opcode in (0xD8, 0xDA, 0xDC, 0xDE) and e.reg >= 6
    return any(not exponent and (significand or divides) for exponent, significand in numbers)


def operands(e: Encoding, what: Effect, stack: Stack, memory: bytes) -> list[Operand | None]:
    """The numbers that the instruction reads; None for one that is none. memory: its operand."""
    found = [register(stack.get(i)) for i in what.reads]
    if memory and what.kind != "store" and len(memory) <= 8:
        found.append(real(memory) if e.opcode in (0xD8, 0xD9, 0xDC, 0xDD) else integer(memory))
    return found


def _computed(e: Encoding, a: Fraction, b: Fraction) -> Fraction | None:
    """The exact result of an operation on ST(0) and the other operand; None for other instructions."""
    if e.opcode not in (0xD8, 0xDA, 0xDC, 0xDE) or e.reg in (2, 3):
        return None
    if e.opcode == 0xDA and e.address is None:
        return None
    first, second = (b, a) if e.reg in (5, 7) else (a, b)
    if e.reg >= 6:
        return first / second if second else None
    if e.reg >= 4:
        return first - second
    return a + b if e.reg == 0 else a * b


def corrected(
    e: Encoding, what: Effect, before: bytes, after: bytes, memory: bytes
) -> tuple[bytes, bool] | None:
    """(image, is the result withheld) after an instruction that a translator has executed as if all
    exceptions were masked; None where ``after``, its image, is right. memory: the operand that was
    read, or bytes of the size of the one that was stored. A result that is withheld pops and stores
    nothing."""
    stack = Stack(before)
    status, unmasked = int.from_bytes(after[2:4], "little"), ~int(stack.control) & _FLAGS
    raised = status & ~int(stack.status) & _FLAGS
    read = operands(e, what, stack, memory)
    numbers = [o for o in read if o is not None]
    if raised & _INVALID_OR_DIVISION or len(numbers) < len(read):
        return None  # these come first, and have been looked at
    denormal = DENORMAL if any(o.denormal for o in numbers) and _looks_for_denormals(e, what) else 0
    if denormal & unmasked:
        return _flagged(before, int(stack.status) | denormal | _SUMMARY, after), True
    if any(number.value is None for number in numbers):
        return (_flagged(after, status | denormal, after), False) if denormal & ~status else None
    if what.kind == "store":
        return _stored(e, stack, before, after, numbers[0], unmasked, len(memory))
    delivered = _delivered(e, what, stack, after, numbers, unmasked, denormal)
    if delivered is not None:
        return delivered, False
    if denormal & ~status:
        return _flagged(after, status | denormal, after), False
    return None


def _looks_for_denormals(e: Encoding, what: Effect) -> bool:
    """Whether the instruction raises #D: neither moves of a register, nor stores, do (SDM vol. 1,
    8.5.2)."""
    if what.kind in ("copy", "exchange", "store"):
        return False
    moving = e.address is None and e.opcode == 0xD9 and (e.reg == 0 or e.modrm in (0xE0, 0xE1))
    conditional = e.address is None and e.opcode in (0xDA, 0xDB) and e.reg < 4
    return not moving and not conditional


def _stored(
    e: Encoding, stack: Stack, before: bytes, after: bytes, number: Operand, unmasked: int, size: int
) -> tuple[bytes, bool] | None:
    """FST and FSTP of 32 or 64 bits: a number that is out of their range is not stored."""
    if e.opcode not in (0xD9, 0xDD) or e.reg not in (2, 3) or not number.value:
        return None
    bits, bias = (24, 127) if size == 4 else (53, 1023)
    result = rounded(abs(number.value), number.negative, bits, int(stack.control) >> 10 & 3)
    exponent = result.exponent + bits - 1
    flag = OVERFLOW if exponent > bias else UNDERFLOW if exponent < 1 - bias else 0
    if not flag & unmasked:
        return None
    return _flagged(before, int(stack.status) & ~_C1 | flag | _SUMMARY, after), True


def _delivered(
    e: Encoding, what: Effect, stack: Stack, after: bytes, numbers: list[Operand], unmasked: int,
    denormal: int,
) -> bytes | None:  # fmt: skip
    """The image with a result whose exponent has been moved into range; None where it is in range."""
    scaling = (e.opcode, e.modrm) == (0xD9, 0xFD)
    if len(numbers) != 2:
        return None
    a, b = (number.value for number in numbers)
    if a is None or b is None:
        return None
    if scaling:
        if not a or abs(b) >= 1 << 17:
            return None
        exact: Fraction | None = a * Fraction(2) ** int(b)
    else:
        exact = _computed(e, a, b)
    if not exact:
        return None
    control = int(stack.control)
    bits = 64 if scaling else _PRECISIONS.get(control >> 8 & 3, 64)
    result = rounded(abs(exact), exact < 0, bits, control >> 10 & 3)
    exponent = result.exponent + bits - 1 + _BIAS
    flag = OVERFLOW if exponent > _TOP_EXPONENT else UNDERFLOW if exponent < 1 else 0
    if not flag & unmasked:
        return None
    exponent += -_MOVED if flag == OVERFLOW else _MOVED
    significand = result.significand << 64 - bits
    if exponent > _TOP_EXPONENT:  # only FSCALE goes so far (SDM vol. 1, 8.5.4)
        exponent, significand = 0x7FFF, 1 << 63
    elif exponent < 1:
        exponent = significand = 0
    status = int.from_bytes(after[2:4], "little") & ~(_FLAGS | _C1) | int(stack.status) & _FLAGS
    status |= flag | denormal | _SUMMARY
    status |= (PRECISION if result.inexact else 0) | (_C1 if result.up else 0)
    image = Stack(_flagged(after, status, after))
    image.set(what.into[0] - what.pops, struct.pack("<QH", significand, exponent | (exact < 0) << 15))
    return image.image()


def _flagged(image: bytes, status: int, after: bytes) -> bytes:
    """The image with another status word, and the pointers to the instruction."""
    return image[:2] + struct.pack("<H", status & 0xFFFF) + image[4:6] + after[6:24] + image[24:]
