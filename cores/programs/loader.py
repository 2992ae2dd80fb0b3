"""The loader: from a file, or from source text, to a ``Program``."""

from __future__ import annotations

import hashlib
import os
import sys

from cores import input_file
from cores.errors import InputError
from cores.programs import elf, file_kind, shipped
from cores.programs.assembler import keystone as assembler
from cores.programs.program import (
    DEFAULT_RAM,
    LARGEST_SOURCE,
    LOAD_ADDRESS,
    M68K_DEVICES,
    M68K_LOAD_ADDRESS,
    Program,
    Segment,
)

_READ_AT_ONCE = 1 << 20

SAVED_SESSION = b"Ringscope session "
"""Magic of a saved session's file, whatever its version (cores/debugging/saved_session.py)."""


def load_program(path: str, ram: int = DEFAULT_RAM, stdin: bytes | None = None) -> Program:
    """Read the program that a user named, for a machine with ``ram`` bytes.

    Recognized by content and ending: ELF by its magic number; ``.s``, ``.asm`` and "-" assembly;
    ``.m68k``; any other file is a flat x86 image. stdin: the content of "-"; None: read standard input.
    Raises InputError with one sentence for any file that cannot be run."""
    limit = max(ram, LARGEST_SOURCE)
    if path != "-":
        content = input_file.read(path, limit)
    else:
        content = _standard_input(limit) if stdin is None else stdin
    if not content:
        raise InputError("empty", path)
    if len(content) > limit:
        raise InputError(f"too big: more than {limit:#x} bytes", path)
    if content.startswith(SAVED_SESSION):
        raise InputError(
            "a saved session, not a program: at a terminal `ringscope FILE` opens it", path
        )
    ending = os.path.splitext(path)[1].lower()
    if content.startswith(b"\x7fELF"):
        return _load_elf(content, path, ram)
    if path == "-" or ending in (".s", ".asm"):
        return assemble_program(content, path, ram)
    if ending == ".m68k":
        return _load_flat(content, path, "m68k", M68K_LOAD_ADDRESS, min(ram, M68K_DEVICES))
    if (reason := file_kind.refusal(content, ending)) is not None:
        raise InputError(reason, path)
    return _load_flat(content, path, "flat", LOAD_ADDRESS, ram)


def assemble_program(content: bytes, path: str, ram: int = DEFAULT_RAM) -> Program:
    """Assemble source text, or find its image if it is a shipped guest and no assembler is
    available."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError("not text: assembly source is UTF-8", path, line) from None
    if assembler.installed():
        image = assembler.assemble(text, path, LOAD_ADDRESS)
    elif (found := shipped.image_of(content)) is not None:
        image = found
    else:
        raise InputError(
            "the assembler, Keystone, has no package for this machine: only the guests that come with"
            " Ringscope, ELF files and flat images run here", path,
        )  # fmt: skip
    if not image.code:
        raise InputError("empty: no instruction in it", path)
    segment = _fitting(image.code, path, LOAD_ADDRESS, ram)
    source = tuple(line.rstrip("\r") for line in text.split("\n"))
    return Program(
        path, "asm", image.entry, (segment,), _sha256(content), image.symbols, image.lines, source
    )


def _load_elf(content: bytes, path: str, ram: int) -> Program:
    found = elf.parse(content, path, LOAD_ADDRESS, ram)
    return Program(path, "elf", found.entry, found.segments, _sha256(content), found.symbols)


def _load_flat(content: bytes, path: str, kind: str, address: int, ram: int) -> Program:
    return Program(path, kind, address, (_fitting(content, path, address, ram),), _sha256(content))


def _fitting(image: bytes, path: str, address: int, ram: int) -> Segment:
    if len(image) > ram - address:
        raise InputError(
            f"too big: {len(image):#x} bytes do not fit into RAM from {address:#x} to {ram:#x}", path
        )
    return Segment(address, image, len(image))


def _standard_input(limit: int) -> bytes:
    """All of standard input, or one byte more than ``limit``."""
    parts, size = [], 0
    try:
        while size <= limit and (part := sys.stdin.buffer.read(min(_READ_AT_ONCE, limit + 1 - size))):
            parts.append(part)
            size += len(part)
    except OSError as error:
        raise InputError(f"standard input cannot be read: {error.strerror}", "-") from None
    return b"".join(parts)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
