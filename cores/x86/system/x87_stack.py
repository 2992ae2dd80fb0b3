"""x87 stack faults: a read of an empty register, or a push onto one in use (SDM vol. 1, 8.5.1.1).

Unicorn's registers have values even when they are empty, so the VMM checks the tags before such an
engine executes an x87 instruction, and completes the one that faults. While #IA is masked, as after
reset, the result is the indefinite value, and comparisons are unordered.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cores.x86.isa.encoding import Encoding

INDEFINITE = bytes.fromhex("000000000000 00c0ffff")
"""The QNaN that is the result of a masked invalid operation (SDM vol. 1, table 4-3)."""
_C3, _C2, _C1, _C0 = 1 << 14, 1 << 10, 1 << 9, 1 << 8
UNORDERED = _C3 | _C2 | _C0
_INVALID, _STACK_FAULT, _SUMMARY = 0x01, 0x40, 0x8080
_DIVISION = 0x04
_UNDELIVERED = _INVALID | _DIVISION
"""IE and ZE: while they are not masked, an instruction that raises one of them has no result (SDM vol.
1, 8.5.1.2 and 8.5.3)."""
_RESULTS = 0x1F
_ARITHMETIC = (0, 1, 4, 5, 6, 7)


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of an x87 instruction on the stack. reads: the ST(i) that must be in use. into: the
    ST(i) that get the result. pushes: ST(7) must be empty. pops: how many. kind: "result", "compare"
    (C3 C2 C0), "flags" (ZF PF CF), "store" (to memory), "copy" (to an ST(i)), "exchange"."""

    reads: tuple[int, ...] = ()
    into: tuple[int, ...] = ()
    pushes: bool = False
    pops: int = 0
    kind: str = "result"


def effect(e: Encoding) -> Effect | None:
    """The effect of the instruction on the stack; None for instructions that cannot cause a stack
    fault."""
    if e.address is not None:
        return _memory(e.opcode, e.reg)
    return _register(e.opcode, e.reg, e.modrm & 7)


def _memory(opcode: int, reg: int) -> Effect | None:
    if not opcode & 1:  # D8, DA, DC, DE
        return _compared((0,), reg) if reg in (2, 3) else Effect((0,), (0,))
    pushing = {0xD9: (0,), 0xDB: (0, 5), 0xDD: (0,), 0xDF: (0, 4, 5)}[opcode]
    storing = {0xD9: (2, 3), 0xDB: (1, 2, 3, 7), 0xDD: (1, 2, 3), 0xDF: (1, 2, 3, 6, 7)}[opcode]
    if reg in pushing:
        return Effect(into=(0,), pushes=True)
    return Effect((0,), pops=0 if reg == 2 else 1, kind="store") if reg in storing else None


def _compared(reads: tuple[int, ...], reg: int) -> Effect:
    return Effect(reads, pops=reg & 1, kind="compare")


def _register(opcode: int, reg: int, i: int) -> Effect | None:
    if opcode == 0xD9:
        return _d9(reg, i)
    if opcode == 0xDA and (reg, i) == (5, 1):  # fucompp
        return Effect((0, 1), pops=2, kind="compare")
    if opcode in (0xDA, 0xDB) and reg < 4:  # fcmov
        return Effect((0, i), (0,))
    if opcode in (0xDB, 0xDF):
        if reg in (5, 6):  # fucomi, fcomi
            return Effect((0, i), pops=opcode == 0xDF, kind="flags")
        return _moved(reg, i) if opcode == 0xDF else None
    if opcode == 0xDD:
        if reg in (4, 5):
            return _compared((0, i), reg)
        return Effect((0,), (i,), pops=reg & 1, kind="copy") if reg in (2, 3) else _moved(reg, i)
    if opcode == 0xD8:
        return Effect((0, i), (0,)) if reg in _ARITHMETIC else _compared((0, i), reg)
    if opcode in (0xDC, 0xDE):
        if opcode == 0xDE and reg == 3:
            return Effect((0, 1), pops=2, kind="compare") if i == 1 else None
        if reg in (2, 3):
            return Effect((0, i), pops=1 if opcode == 0xDE else reg & 1, kind="compare")
        return Effect((0, i), (i,), pops=opcode == 0xDE)
    return None


def _moved(reg: int, i: int) -> Effect | None:
    """Undocumented aliases of FXCH and FSTP (APM vol. 3, table A-16)."""
    if reg == 1:
        return Effect((0, i), (0, i), kind="exchange")
    return Effect((0,), (i,), pops=1, kind="copy") if reg in (2, 3) else None


_UNARY, _BINARY, _BINARY_POP = Effect((0,), (0,)), Effect((0, 1), (0,)), Effect((0, 1), (1,), pops=1)
_TWO_RESULTS, _CONSTANT = Effect((0,), (0, 1), pushes=True), Effect(into=(0,), pushes=True)
_D9: dict[int, Effect] = {
    0xE0: _UNARY, 0xE1: _UNARY, 0xE4: Effect((0,), kind="compare"),
    **dict.fromkeys(range(0xE8, 0xEF), _CONSTANT),
    0xF0: _UNARY, 0xF1: _BINARY_POP, 0xF2: _TWO_RESULTS, 0xF3: _BINARY_POP, 0xF4: _TWO_RESULTS,
    0xF5: _BINARY, 0xF8: _BINARY, 0xF9: _BINARY_POP, 0xFA: _UNARY, 0xFB: _TWO_RESULTS,
    0xFC: _UNARY, 0xFD: _BINARY, 0xFE: _UNARY, 0xFF: _UNARY,
}  # fmt: skip


def _d9(reg: int, i: int) -> Effect | None:
    if reg == 0:
        return Effect((i,), (0,), pushes=True)
    if reg == 1:
        return Effect((0, i), (0, i), kind="exchange")
    if reg == 3:
        return Effect((0,), (i,), pops=1, kind="copy")
    return _D9.get(0xC0 | reg << 3 | i)


class Stack:
    """The x87 part of an FXSAVE64 image, to be changed in place; ``image()`` gives the new image."""

    def __init__(self, image: bytes) -> None:
        self._image = bytearray(image)
        self.control, self.status, self.tags = struct.unpack_from("<HHB", image)

    @property
    def top(self) -> int:
        return int(self.status) >> 11 & 7

    def used(self, i: int) -> bool:
        return bool(self.tags >> (self.top + i & 7) & 1)

    def faults(self, what: Effect) -> bool:
        """Whether this instruction causes a stack fault."""
        return (what.pushes and self.used(7)) or not all(map(self.used, what.reads))

    def as_a_translator_has_it(self, what: Effect) -> bool:
        """Whether an engine that ignores the tags executes this instruction rightly: without a stack
        fault, and without a copy to an empty register."""
        return not self.faults(what) and (what.kind != "copy" or self.used(what.into[0]))

    @property
    def delivers_all(self) -> bool:
        """Whether results are those of masked exceptions whatever happens: all but #P are masked, which
        changes none."""
        return int(self.control) & _RESULTS == _RESULTS

    def undelivered(self, what: Effect, after: bytes) -> bytes | None:
        """The image after an instruction that an engine has executed as if all exceptions were masked;
        None where that is right. After an unmasked #IA or #Z it is this one, with the exception pending
        and the pointers to the instruction. after: the engine's image. It has ZE set at every divisor
        of 0, though 0 / 0 is invalid, and infinity / 0 exact (SDM vol. 1, 8.5.1.2 and 8.5.3)."""
        status = int.from_bytes(after[2:4], "little")
        raised = status & ~self.status & 0x3F
        exact = raised & _DIVISION and (raised & _INVALID or any(map(self._is_special, what.reads)))
        if exact:
            raised &= ~_DIVISION
            status &= ~(_DIVISION | _SUMMARY)
            status |= _SUMMARY if status & ~self.control & 0x3F else 0
        if raised & ~self.control & _UNDELIVERED:
            status = self.status | raised & _UNDELIVERED | _SUMMARY
            held, pointers = self.image(), after[6:24]
        elif exact:
            held, pointers = after, after[6:24] if status & _SUMMARY else bytes(18)
        else:
            return None
        return held[:2] + status.to_bytes(2, "little") + held[4:6] + pointers + held[24:]

    def _is_special(self, i: int) -> bool:
        """Is ST(i) an infinity or a NaN?"""
        return int.from_bytes(self.get(i)[8:], "little") & 0x7FFF == 0x7FFF

    def get(self, i: int) -> bytes:
        return bytes(self._image[32 + 16 * i : 42 + 16 * i])

    def set(self, i: int, value: bytes) -> None:
        self._image[32 + 16 * i : 42 + 16 * i] = value
        self.tags |= 1 << (self.top + i & 7)

    def turn(self, by: int) -> None:
        """Move TOP; the image numbers registers from there."""
        registers = [self.get(i) for i in range(8)]
        self.status = self.status & ~0x3800 | (self.top + by & 7) << 11
        for i in range(8):
            self._image[32 + 16 * i : 42 + 16 * i] = registers[i + by & 7]

    def pop(self) -> None:
        self.tags &= ~(1 << self.top)
        self.turn(1)

    def invalid(self, *, overflow: bool) -> bool:
        """Set the flags of the stack fault. True if #IA is masked, so that the result is to be
        delivered."""
        self.status = self.status & ~_C1 | _INVALID | _STACK_FAULT | (_C1 if overflow else 0)
        if self.control & _INVALID:
            return True
        self.status |= _SUMMARY
        return False

    def image(self) -> bytes:
        struct.pack_into("<HHB", self._image, 0, self.control, self.status & 0xFFFF, self.tags)
        return bytes(self._image)


def deliver(stack: Stack, what: Effect) -> None:
    """The masked response to a stack fault, apart from memory and RFLAGS."""
    if what.pushes:
        stack.turn(-1)
    if what.kind == "compare":
        stack.status |= UNORDERED
    elif what.kind == "exchange":
        values = [stack.get(i) if stack.used(i) else INDEFINITE for i in what.into]
        for i, value in zip(what.into, reversed(values), strict=True):
            stack.set(i, value)
    elif what.kind in ("result", "copy"):
        for i in what.into:
            stack.set(i, INDEFINITE)
    for _ in range(what.pops):
        stack.pop()


def stored_indefinite(e: Encoding, size: int) -> bytes:
    """The value that a store of an empty register writes to memory: a real, an integer, or packed
    BCD."""
    if (e.opcode, e.reg) == (0xDF, 6):
        return bytes.fromhex("00000000000000c0ffff")
    real = (e.opcode, e.reg) in {(0xD9, 2), (0xD9, 3), (0xDD, 2), (0xDD, 3), (0xDB, 7)}
    if not real:
        return (1 << 8 * size - 1).to_bytes(size, "little")
    return {4: b"\0\0\xc0\xff", 8: b"\0\0\0\0\0\0\xf8\xff", 10: INDEFINITE}[size]
