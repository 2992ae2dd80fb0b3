"""The machine code of a conditional stop's check (cores/vmm/conditional_stop.py).

It compares without changing a flag: LEA adds the negative of the wanted value to a register, and JRCXZ
asks whether the sum is 0. RCX and RAX are saved behind the code first, and RCX is used for the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cores.vmm.patching.twin import HLT
from cores.x86.registers import MASK32, MASK64, RCX, RSP

SAVED = 2048
"""Offset from the code's beginning of two words of 8 bytes: RCX and RAX as the guest has them."""


@dataclass(frozen=True, slots=True)
class Check:
    """saved: the offset from which on both registers are saved. match: that of the HLT at which the
    guest stops. go_on: that of the end, where the guest goes on otherwise, with RCX loaded anew."""

    code: bytes
    saved: int
    match: int
    go_on: int


def check_64(now: list[int], wanted: list[int], words: dict[int, int]) -> Check:
    """now: the guest's registers; the ones that differ from ``wanted`` are compared first. words: of 32
    bits, by address, with the values that they are to have."""
    code, misses = bytearray(), []

    def word(opcode: str, number: int) -> None:
        """An instruction with a saved word as its operand, relative to RIP."""
        begins = bytes.fromhex(opcode)
        distance = SAVED + 8 * number - len(code) - len(begins) - 4
        code.extend(begins + distance.to_bytes(4, "little"))

    def subtract(value: int) -> None:
        """From RCX, by way of RAX."""
        code.extend(b"\x48\xb8" + _bytes(-value, 8))  # mov rax, -value
        code.extend(b"\x48\x8d\x0c\x01")  # lea rcx, [rcx + rax]
        word("488b05", 1)  # mov rax, [saved]

    word("48890d", 0)  # mov [saved], rcx
    word("488905", 1)  # mov [saved], rax
    saved = len(code)
    for number in _order(now, wanted):
        if number == RCX:
            subtract(wanted[number])
        else:
            code.extend(b"\x48\xb9" + _bytes(-wanted[number], 8))  # mov rcx, -wanted
            if number == RSP:
                code.extend(b"\x48\x8d\x0c\x0c")  # lea rcx, [rsp + rcx]
            else:  # lea rcx, [register + rcx]
                code.extend((0x48 | number >> 3, 0x8D, 0x4C, 0x08 | number & 7, 0))
        misses.append(_or_go_on(code))
    for address, value in words.items():
        code.extend(b"\x48\xb9" + _bytes(address, 8) + b"\x8b\x09")  # mov ecx, [rcx]
        subtract(value)
        misses.append(_or_go_on(code))
    return _ended(code, misses, saved, lambda: word("488b0d", 0))  # mov rcx, [saved]


def check_32(now: list[int], wanted: list[int], words: dict[int, int], start: int) -> Check:
    """The same for 32-bit code with flat segments; start: the address of the check."""
    code, misses = bytearray(), []
    at = (_bytes(start + SAVED, 4), _bytes(start + SAVED + 8, 4))
    code.extend(b"\x89\x0d" + at[0])  # mov [saved], ecx
    code.extend(b"\xa3" + at[1])  # mov [saved], eax
    saved = len(code)
    for number in _order(now[:8], wanted[:8]):
        mod_rm = b"\x8c\x24" if number == RSP else bytes([0x88 | number])
        code.extend(b"\x8d" + mod_rm + _bytes(-wanted[number], 4))  # lea ecx, [register - wanted]
        misses.append(_or_go_on(code))
    for address, value in words.items():
        code.extend(b"\x8b\x0d" + _bytes(address, 4))  # mov ecx, [address]
        code.extend(b"\x8d\x89" + _bytes(-value, 4))  # lea ecx, [ecx - value]
        misses.append(_or_go_on(code))
    return _ended(code, misses, saved, lambda: code.extend(b"\x8b\x0d" + at[0]))


def _order(now: list[int], wanted: list[int]) -> list[int]:
    """RCX, which is at hand, then those that differ now."""
    others = (number for number in range(len(now)) if number != RCX)
    return [RCX, *sorted(others, key=lambda number: now[number] == wanted[number])]


def _or_go_on(code: bytearray) -> int:
    """If the sum is not 0, go on. Gives the place behind the jump, which has no target yet."""
    code.extend(b"\xe3\x05\xe9\0\0\0\0")  # jrcxz over; jmp go on
    return len(code)


def _ended(code: bytearray, misses: list[int], saved: int, restore: Callable[[], None]) -> Check:
    restore()
    match = len(code)
    code.append(HLT)
    for at in misses:
        code[at - 4 : at] = (len(code) - at).to_bytes(4, "little")
    go_on = len(code)
    restore()
    return Check(bytes(code), saved, match, go_on)


def _bytes(value: int, length: int) -> bytes:
    return (value & (MASK32 if length == 4 else MASK64)).to_bytes(length, "little")
