"""What an assembler gives: a flat image, and where its labels and lines are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Image:
    """An assembled program. code: the flat image. entry: an address. symbols: name -> address. lines:
    address -> line."""

    code: bytes
    entry: int
    symbols: dict[str, int]
    lines: dict[int, int]
