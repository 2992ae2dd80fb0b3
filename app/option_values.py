"""Values of options as users write them, on the command line and in the interface.

Each function raises InputError with one sentence for what cannot be read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from app.numbers import size
from cores.errors import InputError
from cores.pc.platform import LARGEST_RAM, MIB, SMALLEST_RAM

EPOCH = datetime(2000, 1, 1)
"""Where the guest's clock begins unless the user says otherwise."""
VIRTIO = ("net", "block", "console", "iommu")
MOST_DISKS = 2
"""Master and slave of the ATA channel."""


def too_many(disks: Sequence[str]) -> bool:
    """Are there more disks than the PC has room for? Those of named block devices need none."""
    return sum("=" not in disk for disk in disks) > MOST_DISKS


def ram(text: str) -> int:
    """Bytes of memory."""
    try:
        value = size(text)
    except ValueError:
        raise InputError(f"{excerpt(text)} is no size; write 32M or 0x2000000") from None
    if value % (2 * MIB) or not SMALLEST_RAM <= value <= LARGEST_RAM:
        raise InputError(f"{text}: RAM is a multiple of 2 MiB, from 2M to 1G")
    return value


def clock(text: str) -> int:
    """A time as seconds since 2000-01-01 00:00:00."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is not None:
        raise InputError(f"{excerpt(text)} is no time; write 2026-01-01T00:00:00")
    return int((moment - EPOCH).total_seconds())


def clock_text(seconds: int) -> str:
    """What ``clock`` reads as that many seconds."""
    return (EPOCH + timedelta(seconds=seconds)).isoformat()


_ESCAPES = {r"\\": "\\", r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\e": "\x1b"}


def typed(text: str) -> bytes:
    """What is typed at the start: ``\\n`` and ``\\r`` are Enter, ``\\t`` Tab, ``\\e`` Esc, ``\\\\`` a
    backslash, since a shell hands them over as they stand."""
    return os.fsencode(re.sub(r"\\[\\nrte]", lambda found: _ESCAPES[found[0]], text))


def typed_text(data: bytes) -> str:
    """What ``typed`` reads as those bytes."""
    text = os.fsdecode(data)
    for escape, character in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def virtio(text: str) -> tuple[str, ...]:
    """Names of virtio devices, each once."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in VIRTIO:
            known = ", ".join(VIRTIO)
            raise InputError(f"no virtio device is called {excerpt(name)}; there are {known}")
    return names


def excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]} ...")
