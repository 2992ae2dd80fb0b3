"""Numbers as command lines have them: ASCII digits, and nothing else that Python would read as one.

``int`` takes "16_0" and full-width digits, and of more than 4,300 digits it says so in two lines;
``float`` takes "nan" and "infinity".
"""

from __future__ import annotations

import re

_WHOLE = re.compile(r"[0-9]{1,30}|0[xX][0-9a-fA-F]{1,25}")
_DECIMAL = re.compile(r"[0-9]{0,30}(?:[0-9]\.?|\.[0-9])[0-9]{0,30}(?:[eE][+-]?[0-9]{1,2})?")
_SIZE = re.compile(r"([0-9]{1,30})(|[kmg]i?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def whole(text: str) -> int:
    """A whole number, decimal or with 0x. Raises ValueError."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


def decimal(text: str) -> float:
    """A number with or without a fraction: 5, 0.5, .5, 1e3. Raises ValueError."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError(text)
    return float(text)


def size(text: str) -> int:
    """Bytes: 33554432, 0x2000000, 32M, 32MiB. Raises ValueError."""
    if found := _SIZE.fullmatch(text):
        return int(found[1]) * _UNITS[found[2][:1].lower()]
    return whole(text)
