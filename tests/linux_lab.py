"""Static Linux programs and other small ELF files for tests, from assembly: no compiler is needed."""

from __future__ import annotations

import struct
from pathlib import Path

from cores.programs.assembler.keystone import assemble

TEXT, DATA = 0x401000, 0x403000
LINUX_NOTE = struct.pack("<III4sIIII", 4, 16, 1, b"GNU\0", 0, 3, 2, 0)
"""NT_GNU_ABI_TAG: for Linux 3.2.0 and newer."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")


def image(
    source: str | bytes,
    *,
    note: bytes = LINUX_NOTE,
    text_rights: int = 5,
    text: int = TEXT,
    data: int = DATA,
    more: bytes = b"",
) -> bytes:
    """An ELF64 program: ``source``, assembly or code, at ``text``, a page of zeros at ``data``, and a
    note, or two."""
    code = source if isinstance(source, bytes) else assemble(source, "program.s", text).code
    headers = [
        (1, text_rights, 0x1000, text, text, len(code), len(code), 0x1000),
        (1, 6, 0x1000, data, data, 0, 0x1000, 0x1000),
        (4, 4, 0x200, 0, 0, len(note), len(note), 4),
        (4, 4, 0x300, 0, 0, len(more), len(more), 8),
    ]
    identification = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = _HEADER.pack(identification, 2, 62, 1, text, 64, 0, 0, 64, 56, len(headers), 64, 0, 0)
    table = b"".join(_SEGMENT.pack(*fields) for fields in headers)
    return (
        (header + table).ljust(0x200, b"\0")
        + note.ljust(0x100, b"\0")
        + more.ljust(0xD00, b"\0")
        + code
    )


def program(folder: Path, source: str | bytes, **options: bytes) -> str:
    """The path of a program that is made from ``source``."""
    path = folder / "program"
    path.write_bytes(image(source, **options))  # type: ignore[arg-type]
    return str(path)
