"""Guests to be measured, in machine code: nothing here waits for an assembler."""

from __future__ import annotations

import hashlib

from cores.programs.program import LOAD_ADDRESS, Program, Segment


def _program(name: str, code: str) -> Program:
    image = bytes.fromhex(code)
    segment = Segment(LOAD_ADDRESS, image, len(image))
    return Program(name, "flat", LOAD_ADDRESS, (segment,), hashlib.sha256(image).hexdigest())


def _count(number: int) -> str:
    return number.to_bytes(4, "little").hex()


def spin(turns: int) -> Program:
    """`mov ecx, turns; 1: dec ecx; jnz 1b; out 0xf4, al`."""
    return _program("spin", f"b9 {_count(turns)} ffc9 75fc e6f4")


def forever() -> Program:
    """`1: jmp 1b`."""
    return _program("forever", "ebfe")


def speak(turns: int) -> Program:
    """`out 0xe9, al` eight times in a loop: 8 * turns exits, and one more."""
    return _program("speak", f"b9 {_count(turns)} {'e6e9' * 8} ffc9 75ec e6f4")


def compute(turns: int) -> Program:
    """Five instructions in a loop: `add rax, rcx; xor rbx, rax; mov [rsp-8], rbx; dec ecx; jnz`."""
    return _program("compute", f"b9 {_count(turns)} 4801c8 4831c3 48895c24f8 ffc9 75f1 e6f4")
