"""Explains in words the differences of two CPUs, register files, FXSAVE images or blocks of bytes, and
a divergence of cores.

``conftest.py`` gives each failed ``left == right`` of a test to ``compared_in_words``: a failing test
then says "rflags: 0x246 is not 0x202 (PF ZF)" where pytest alone prints two lines of 600 characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from cores.machine.report import Divergence
from cores.x86 import fxsave
from cores.x86.registers import GPR_NAMES, SEGMENT_NAMES, STATE_NAMES, Flag
from cores.x86.virtual_cpu import VirtualCpu

MOST_LINES = 24
FXSAVE_SIZE = 512
PARTS = {
    "gpr": GPR_NAMES,
    "segments": SEGMENT_NAMES,
    "debug": tuple(f"dr{n}" for n in range(8)),
}
"""Names of the elements of a CPU's lists."""
FLAGS = {bit: name for name, bit in vars(Flag).items() if name.isupper() and bit.bit_count() == 1}


def compared_in_words(left: object, right: object) -> list[str] | None:
    """A headline and a line for each difference; None for values that pytest explains well enough."""
    match left, right:
        case VirtualCpu(), VirtualCpu():
            title, lines = "two CPUs differ:", list(_fields(left, right, ""))
        case tuple(), tuple() if len(left) == len(right) == len(STATE_NAMES) and _all_int(left + right):
            title = "two register files differ:"
            lines = list(_named(STATE_NAMES, left, right))
        case bytes() | bytearray(), bytes() | bytearray() if len(left) == len(right) == FXSAVE_SIZE:
            title, lines = "two FXSAVE images differ:", list(_images(bytes(left), bytes(right)))
        case bytes() | bytearray(), bytes() | bytearray() if max(len(left), len(right)) > 16:
            title, lines = "two blocks of bytes differ:", list(_bytes(bytes(left), bytes(right)))
        case Divergence(), None:
            title, lines = "the cores diverge:", list(_diverged(left))
        case _:
            return None
    more = len(lines) - MOST_LINES
    return [title, *lines[:MOST_LINES], *([f"... and {more:,} more"] if more > 0 else [])]


def _diverged(divergence: Divergence) -> Iterator[str]:
    what = "" if divergence.asm is None else f", by {divergence.asm} at {divergence.rip:#x}"
    yield f"after {divergence.instruction} instructions{what}"
    for name in divergence.differs:
        told = (
            f"{value:#x} on {core}" if type(value) is int else f"{value!r} on {core}"
            for core, value in ((core, values.get(name)) for core, values in divergence.values.items())
        )  # fmt: skip
        yield f"{name}: {', '.join(told)}"


def _all_int(values: tuple[object, ...]) -> bool:
    return all(type(value) is int for value in values)


def _named(names: tuple[str, ...], left: tuple[int, ...], right: tuple[int, ...]) -> Iterator[str]:
    for name, a, b in zip(names, left, right, strict=True):
        if a != b:
            yield _line(name, a, b)


def _line(name: str, a: int, b: int) -> str:
    told = f"{name}: {a:#x} is not {b:#x}"
    if name == "rflags":
        told += f" ({' '.join(word for bit, word in FLAGS.items() if (a ^ b) & bit)})"
    return told


def _fields(left: object, right: object, prefix: str) -> Iterator[str]:
    """Compare two dataclasses of one type down to the integers that differ."""
    assert is_dataclass(left)
    for field in fields(left):
        a, b = getattr(left, field.name), getattr(right, field.name)
        yield from _values(f"{prefix}{field.name}", a, b, PARTS.get(field.name))


def _values(name: str, a: object, b: object, parts: tuple[str, ...] | None = None) -> Iterator[str]:
    if a == b:
        return
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        names = parts or tuple(f"{name}[{n}]" for n in range(len(a)))
        for part, one, other in zip(names, a, b, strict=True):
            yield from _values(part, one, other)
    elif is_dataclass(a):
        yield from _fields(a, b, f"{name}.")
    elif type(a) is int and type(b) is int:
        yield _line(name, a, b)
    else:
        yield f"{name}: {a!r} is not {b!r}"


def _images(left: bytes, right: bytes) -> Iterator[str]:
    one, other = fxsave.parts(left), fxsave.parts(right)
    for name in one:
        if one[name] != other[name]:
            yield _line(name, one[name], other[name])
    told = [range(at, at + size) for _, at, size in fxsave._PARTS]
    for at in range(FXSAVE_SIZE):
        if left[at] != right[at] and not any(at in part for part in told):
            yield _line(f"byte {at} of the image", left[at], right[at])


def _bytes(left: bytes, right: bytes) -> Iterator[str]:
    """Runs of bytes that differ, each with its offset, at most 16 bytes of it."""
    if len(left) != len(right):
        yield f"length: {len(left):,} is not {len(right):,}"
    at, end = 0, min(len(left), len(right))
    while at < end:
        if left[at] == right[at]:
            at += 1
            continue
        stop = at
        while stop < end and stop < at + 16 and left[stop] != right[stop]:
            stop += 1
        yield f"at {at:#x}: {left[at:stop].hex(' ')} is not {right[at:stop].hex(' ')}"
        at = stop
