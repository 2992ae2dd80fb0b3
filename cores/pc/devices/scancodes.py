"""Scan codes of a US keyboard: the codes of each key, and the keys of each character.

Source: IBM, "PS/2 Hardware Interface Technical Reference: Keyboards" (scan code sets 1 and 2). Set 1: a
make code, and the same with bit 7 set for the break. Set 2: 0xF0 before the break. Keys that the 84-key
keyboard did not have get 0xE0 before either.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple


class Event(NamedTuple):
    """A key goes down or comes up."""

    key: str
    down: bool


Stroke = tuple[Event, ...]
"""The key events for one character: "A" is shift down, a down, a up, shift up."""

_MAIN = {  # the keys without a prefix, in the order of set 1 from code 0x01
    "escape": 0x76,
    "1": 0x16, "2": 0x1E, "3": 0x26, "4": 0x25, "5": 0x2E, "6": 0x36, "7": 0x3D, "8": 0x3E,
    "9": 0x46, "0": 0x45, "-": 0x4E, "=": 0x55, "backspace": 0x66, "tab": 0x0D,
    "q": 0x15, "w": 0x1D, "e": 0x24, "r": 0x2D, "t": 0x2C, "y": 0x35, "u": 0x3C, "i": 0x43,
    "o": 0x44, "p": 0x4D, "[": 0x54, "]": 0x5B, "enter": 0x5A, "ctrl": 0x14,
    "a": 0x1C, "s": 0x1B, "d": 0x23, "f": 0x2B, "g": 0x34, "h": 0x33, "j": 0x3B, "k": 0x42,
    "l": 0x4B, ";": 0x4C, "'": 0x52, "`": 0x0E, "shift": 0x12, "\\": 0x5D,
    "z": 0x1A, "x": 0x22, "c": 0x21, "v": 0x2A, "b": 0x32, "n": 0x31, "m": 0x3A, ",": 0x41,
    ".": 0x49, "/": 0x4A, "right shift": 0x59, "keypad *": 0x7C, "alt": 0x11, " ": 0x29,
    "caps lock": 0x58,
    "f1": 0x05, "f2": 0x06, "f3": 0x04, "f4": 0x0C, "f5": 0x03, "f6": 0x0B, "f7": 0x83,
    "f8": 0x0A, "f9": 0x01, "f10": 0x09,
}  # fmt: skip

_EXTENDED = {  # after 0xE0: set 1, set 2
    "home": (0x47, 0x6C), "up": (0x48, 0x75), "pageup": (0x49, 0x7D), "left": (0x4B, 0x6B),
    "right": (0x4D, 0x74), "end": (0x4F, 0x69), "down": (0x50, 0x72), "pagedown": (0x51, 0x7A),
    "insert": (0x52, 0x70), "delete": (0x53, 0x71),
}  # fmt: skip

_CODES = {
    **{key: (0x01 + at, set2, False) for at, (key, set2) in enumerate(_MAIN.items())},
    "f11": (0x57, 0x78, False),
    "f12": (0x58, 0x07, False),
    **{key: (*codes, True) for key, codes in _EXTENDED.items()},
}
"""Key: its code in set 1, in set 2, and whether it is prefixed by 0xE0."""

_SHIFTED = dict(zip('!@#$%^&*()_+{}:"~|<>?', "1234567890-=[];'`\\,./", strict=True))
_NAMED = {"\n": "enter", "\r": "enter", "\t": "tab", "\b": "backspace", "\x7f": "backspace",
          "\x1b": "escape"}  # fmt: skip


def is_key(name: str) -> bool:
    """Whether the keyboard has a key of this name."""
    return name in _CODES


def encode(event: Event, scan_set: int) -> bytes:
    """The bytes of ``event`` in scan code set 1 or 2."""
    set1, set2, extended = _CODES[event.key]
    prefix = b"\xe0" if extended else b""
    if scan_set == 1:
        return prefix + bytes((set1 if event.down else set1 | 0x80,))
    return prefix + (b"" if event.down else b"\xf0") + bytes((set2,))


def press(key: str) -> Stroke:
    """The events of one key pressed and released."""
    return Event(key, True), Event(key, False)


@cache
def stroke(character: int) -> Stroke:
    """The key events for a byte of text; none when no key gives it (0x80 and above)."""
    text = chr(character)
    if text in _NAMED:
        return press(_NAMED[text])
    if text in _CODES:
        return press(text)
    if text in _SHIFTED or (text.isascii() and text.isupper()):
        return _held("shift", _SHIFTED.get(text, text.lower()))
    if 1 <= character <= 26:
        return _held("ctrl", chr(character + 0x60))
    return ()


SEQUENCES = {
    **{b"\x1b[" + bytes((letter,)): key for letter, key in
       zip(b"ABCDHF", ("up", "down", "right", "left", "home", "end"), strict=True)},
    **{b"\x1bO" + bytes((letter,)): f"f{n}" for n, letter in enumerate(b"PQRS", 1)},
    **{b"\x1b[%d~" % number: key for number, key in (
        (2, "insert"), (3, "delete"), (5, "pageup"), (6, "pagedown"),
        (15, "f5"), (17, "f6"), (18, "f7"), (19, "f8"), (20, "f9"), (21, "f10"), (23, "f11"),
        (24, "f12"))},
}  # fmt: skip
"""What a terminal sends for a key that has no character (xterm's control sequences, PC style)."""

SENT = {key: sequence for sequence, key in SEQUENCES.items()}
"""Key -> what a terminal sends for it."""

LONGEST = max(map(len, SEQUENCES))


def first(text: bytes, at: int) -> int:
    """The bytes of the first stroke in what a terminal sends, from ``at`` on."""
    sizes = range(LONGEST, 1, -1) if text[at] == 0x1B else ()
    return next((n for n in sizes if text[at : at + n] in SEQUENCES), 1)


def strokes(text: bytes) -> tuple[Stroke, ...]:
    """The key events for what a terminal sends: a byte for a character, a sequence for a key that has
    none. Bytes without a key are left out."""
    found: list[Stroke] = []
    at = 0
    while at < len(text):
        size = first(text, at)
        key = SEQUENCES.get(text[at : at + size])
        found.append(stroke(text[at]) if key is None else press(key))
        at += size
    return tuple(filter(None, found))


def _held(modifier: str, key: str) -> Stroke:
    return Event(modifier, True), *press(key), Event(modifier, False)
