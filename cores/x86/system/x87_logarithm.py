"""FYL2X and FYL2XP1 of operands for which a translator computes nothing right (SDM vol. 2, FYL2X).

Unicorn converts both operands to 64 bits, and neither pops nor computes where the logarithm's is not a
positive number there: of 0, of a negative number, of a NaN, and of numbers that 64 bits do not hold.
For these the results of the manual's table are here; of a finite one the logarithm has 53 bits, as
Unicorn's (cores/x86/isa/cpu_differences.py). All functions are pure.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction

from cores.x86.isa.encoding import Encoding
from cores.x86.system.x87_exceptions import (
    DENORMAL,
    OVERFLOW,
    PRECISION,
    UNDERFLOW,
    Operand,
    register,
    rounded,
)
from cores.x86.system.x87_stack import INDEFINITE, Stack

_INVALID, _DIVISION, _SUMMARY, _FLAGS, _C1 = 0x01, 0x04, 0x8080, 0x3F, 0x0200
_BIAS, _MOVED, _TOP = 16383, 24576, 0x7FFE
_NARROW = range(_BIAS - 1000, _BIAS + 1000)
"""Exponents at which a product of two numbers of 64 bits is one, too."""
_LOG2_E = Fraction(0x171547652B82FE1777D0FFDA0D23A7D12, 1 << 128)
_QUIET = 1 << 62


def computes(e: Encoding) -> bool:
    """Whether it is FYL2X or FYL2XP1."""
    return e.opcode == 0xD9 and e.modrm in (0xF1, 0xF9)


def is_beyond(e: Encoding, stack: Stack) -> bool:
    """Whether a translator computes it wrongly."""
    (_, first), (_, second) = (struct.unpack("<QH", stack.get(i)) for i in range(2))
    if first & 0x7FFF not in _NARROW or (first >> 15 and (e.modrm == 0xF1 or first & 0x7FFF >= _BIAS)):
        return True
    return second & 0x7FFF not in _NARROW and any(stack.get(1)[:9])


def complete(e: Encoding, image: bytes) -> bytes:
    """The image after the instruction; its operands are in use. After an unmasked #I, #Z or #D nothing
    is popped."""
    stack = Stack(image)
    value, raised = _result(e, stack)
    pending = raised & ~int(stack.control) & _FLAGS
    status = int(stack.status) & ~_C1 | raised | (_SUMMARY if pending else 0)
    if not pending & (_INVALID | _DIVISION | DENORMAL):
        stack.set(1, value)
        stack.pop()
    else:
        status = status & ~(raised & ~(_INVALID | _DIVISION | DENORMAL)) | int(stack.status) & _FLAGS
    stack.status = int(stack.status) & 0x3800 | status & ~0x3800
    return stack.image()


def _result(e: Encoding, stack: Stack) -> tuple[bytes, int]:
    """(the value for ST(1), the exceptions raised)."""
    x, y = register(stack.get(0)), register(stack.get(1))
    if x is None or y is None:
        return _nan(stack)
    denormal = DENORMAL if x.denormal or y.denormal else 0
    if x.value is None or y.value is None or not x.value or (x.negative and e.modrm == 0xF1):
        value, raised = _special(x, y, one_more=e.modrm == 0xF9)
        return value, raised if raised else denormal
    logarithm = _log2_of_one_more(x.value) if e.modrm == 0xF9 else _log2(x.value)
    if logarithm is None:  # outside FYL2XP1's domain, where the result is undefined
        return INDEFINITE, _INVALID
    exact = logarithm * y.value
    if not exact:
        return _zero(y.negative is not (logarithm < 0)), denormal
    value, raised = _encoded(exact, int(stack.control))
    return value, raised | denormal


def _nan(stack: Stack) -> tuple[bytes, int]:
    """The quiet NaN that two operands give, one of them a NaN: of two the larger (SDM vol. 1, table
    4-7). An unsupported format, and a signalling NaN, is an invalid operation."""
    nans, raised = [], 0
    for i in range(2):
        significand, head = struct.unpack("<QH", stack.get(i))
        if head & 0x7FFF and not significand >> 63:
            return INDEFINITE, _INVALID
        if head & 0x7FFF == 0x7FFF and significand << 1 & (1 << 64) - 1:
            raised |= 0 if significand & _QUIET else _INVALID
            nans.append((significand | _QUIET, -(head >> 15), head))
    significand, _, head = max(nans)
    return struct.pack("<QH", significand, head), raised


def _special(x: Operand, y: Operand, *, one_more: bool) -> tuple[bytes, int]:
    """Zeros, infinities, and logarithms of negative numbers."""
    zero = x.value is not None and not x.value
    if one_more and zero:
        if y.value is None:
            return INDEFINITE, _INVALID
        return _zero(x.negative is not y.negative), 0
    if x.negative and not zero and not (one_more and x.value is not None):
        return INDEFINITE, _INVALID
    if zero:
        if y.value is not None and not y.value:
            return INDEFINITE, _INVALID
        return _infinity(not y.negative), _DIVISION if y.value is not None else 0
    if x.value is None:  # +infinity
        if y.value is not None and not y.value:
            return INDEFINITE, _INVALID
        return _infinity(y.negative), 0
    above = x.value > (0 if one_more else 1)
    if x.value == 1 and not one_more:
        return INDEFINITE, _INVALID
    return _infinity(y.negative is above), 0


def _log2(value: Fraction) -> Fraction:
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    return exponent + Fraction(math.log2(float(value / Fraction(2) ** exponent)))


def _log2_of_one_more(value: Fraction) -> Fraction | None:
    if value <= -1:
        return None
    if value > 1:
        return _log2(value + 1)
    if abs(value) < Fraction(1, 1 << 64):
        return value * _LOG2_E
    return Fraction(math.log1p(float(value))) * _LOG2_E


def _encoded(exact: Fraction, control: int) -> tuple[bytes, int]:
    """A number that is not 0 as a register holds it, and the exceptions of rounding it."""
    negative, mode = exact < 0, control >> 10 & 3
    result = rounded(abs(exact), negative, 64, mode)
    exponent = result.exponent + 63 + _BIAS
    raised = PRECISION
    if exponent > _TOP:
        raised |= OVERFLOW
        if control & OVERFLOW:
            return _infinity(negative), raised
        exponent -= _MOVED
    elif exponent < 1:
        raised |= UNDERFLOW
        if control & UNDERFLOW:
            units = abs(exact) / Fraction(2) ** (1 - _BIAS - 63)
            return struct.pack("<QH", round(units), negative << 15), raised
        exponent += _MOVED
    return struct.pack("<QH", result.significand, exponent & 0x7FFF | negative << 15), raised


def _zero(negative: bool) -> bytes:
    return struct.pack("<QH", 0, negative << 15)


def _infinity(negative: bool) -> bytes:
    return struct.pack("<QH", 1 << 63, 0x7FFF | negative << 15)
