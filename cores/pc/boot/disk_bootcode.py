"""The boot code of disk images: its source, and the assembled bytes beside it.

``sector.s`` is the boot sector that the BIOS loads; ``loader.s`` (real mode) and ``entry.s`` (long
mode) lie in the boot information's page and, but for the last few instructions, are erased before the
guest begins. ``python -m cores.pc.boot.build_bootcode`` assembles them; a test holds source and bytes
equal.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
ORIGINS = {"sector": 0x7C00, "loader": 0x0800, "entry": 0x10B00}
"""The address for which each part is assembled. The loader's is an offset in segment 0x1000."""


def code(part: str) -> bytes:
    """The assembled bytes of ``part``."""
    return (HERE / f"{part}.bin").read_bytes()
