"""RCPPS, RCPSS, RSQRTPS, RSQRTSS: approximations whose error alone the SDM bounds.

Each make of CPU has its own table for them, so the platform defines the result (exact mode): the value
itself, rounded to nearest. Its relative error is far below the 1.5 * 2**-12 allowed (SDM vol. 2, RCPPS
and RSQRTPS), and no exception is signalled. Denormal operands count as 0, denormal results become 0.
"""

from __future__ import annotations

import math
import struct

from cores.vmm.emulate.emulator import Emulator, Handlers
from cores.x86.isa.accesses import accesses
from cores.x86.isa.instruction import Instruction, Register
from cores.x86.isa.operand_checks import address_fault, check_operands
from cores.x86.registers import MASK64, canonical

_XMM = 160
"""Offset of XMM0 in an FXSAVE image."""
_SIGN, _INFINITY, _QUIET, _INDEFINITE = 0x80000000, 0x7F800000, 0x00400000, 0xFFC00000
_SMALLEST = 0x00800000
"""The smallest normal single-precision number."""


def reciprocal(bits: int) -> int:
    """1 / x of a single-precision number, both as bits."""
    sign, magnitude = bits & _SIGN, bits & ~_SIGN
    if magnitude > _INFINITY:
        return bits | _QUIET
    if magnitude < _SMALLEST:
        return sign | _INFINITY
    if magnitude == _INFINITY:
        return sign
    result = _bits(1 / _number(magnitude))
    return sign | (result if result >= _SMALLEST else 0)


def reciprocal_root(bits: int) -> int:
    """1 / sqrt(x) of a single-precision number, both as bits."""
    sign, magnitude = bits & _SIGN, bits & ~_SIGN
    if magnitude > _INFINITY:
        return bits | _QUIET
    if magnitude < _SMALLEST:
        return sign | _INFINITY
    if sign:
        return _INDEFINITE
    return 0 if magnitude == _INFINITY else _bits(1 / math.sqrt(_number(magnitude)))


def approximate(e: Emulator, insn: Instruction) -> str:
    image = bytearray(e.fpu.read_fpu())
    destination, source = insn.operands
    assert isinstance(destination, Register)
    lanes = 4 if insn.mnemonic.endswith("ps") else 1
    if isinstance(source, Register):
        at = _place(source)
        data = bytes(image[at : at + 4 * lanes])
    else:
        gva, length, _ = accesses(insn, e.cpu)[0]
        if not canonical(gva) or not canonical(gva + length - 1 & MASK64):
            raise address_fault(insn, e.cpu)
        check_operands(insn, e.cpu, e.mmu.translate)
        data = e.mmu.read(gva, length)
    compute = reciprocal if insn.mnemonic.startswith("rcp") else reciprocal_root
    results = [compute(bits) for bits in struct.unpack(f"<{lanes}I", data)]
    struct.pack_into(f"<{lanes}I", image, _place(destination), *results)
    e.fpu.write_fpu(bytes(image))
    return "approximated"


def _place(register: Register) -> int:
    return _XMM + 16 * int(register.name.removeprefix("xmm"))


def _number(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def _bits(number: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", number))[0])


HANDLERS: Handlers = dict.fromkeys(("rcpps", "rcpss", "rsqrtps", "rsqrtss"), approximate)
