"""Numbers with their nouns, in sentences for people."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """The number and its noun: "1 exit", "2,000 exits". many: the plural, where that is not ``one``
    with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
