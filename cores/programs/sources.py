"""The source of a compiled program: its debug information's lines, and the files that they are in.

All files stand one after the other in ``Program.source``, each with a line of its own name before it.
So a line has one number there, as a line of assembly has. A file is searched by the name that the
compiler recorded, then beside the program, where a class finds what was built on another computer.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from dataclasses import replace

from cores import input_file
from cores.errors import InputError
from cores.programs import debug_lines
from cores.programs.debug_lines import LineTable
from cores.programs.program import LAST, Program

ENDINGS = (
    ".c", ".h", ".s", ".asm", ".inc", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".rs", ".zig", ".d", ".go",
    ".m", ".pas", ".ada", ".adb", ".ads", ".f90", ".nim", ".odin", ".v",
)  # fmt: skip
"""Files with other names are not opened: a program's file might name any file of the user's."""
LARGEST_FILE = 4 << 20
MOST_TEXT = 32 << 20
"""Bytes of one source file, and of all that are read."""
LONGEST_LINE = 500
LONGEST_INSTRUCTION = 15


def with_sources(program: Program, *, texts: bool = True) -> Program:
    """The program with ``lines``, ``source``, ``files`` and ``note`` from its debug information, where
    it has any. texts: the files are read, too; without them, only their names are known."""
    if not program.image or program.lines:
        return program
    table = debug_lines.read(program.image)
    source: list[str] = []
    files: list[tuple[int, str]] = []
    first: list[int] = []
    missing, left = [], MOST_TEXT
    used = _last_lines(table)
    for number, name in enumerate(table.files):
        text = (
            _read(name, program.folder, min(left, LARGEST_FILE)) if texts and number in used else None
        )
        if text is None and number in used:
            missing.append(os.path.basename(name))
        left -= sum(map(len, text or ()))
        first.append(len(source) + 1)
        files.append((len(source) + 1, _shown(name)))
        source += [_shown(name), *(text or ()), *[""] * (used.get(number, 0) - len(text or ()))]
    lines = {
        address: first[file] + line if line and first else 0 for address, file, line in table.places
    }
    note = table.note
    if texts and missing and not note:
        note = f"its source is not here: {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}"
    if texts and len(missing) == len(used):
        lines, source = {}, []  # nothing to be shown but disassembly
        files = []
    return replace(program, lines=lines, source=tuple(source), files=tuple(files), note=note)


def file_of(files: tuple[tuple[int, str], ...], number: int) -> tuple[int, int]:
    """The number of the line with the name of the file in which line ``number`` of ``source`` is, and
    that of the next file's (0: there is none). Without files, all lines are of one."""
    at = bisect_right(files, (number, LAST)) - 1
    if at < 0:
        return 0, 0
    return files[at][0], files[at + 1][0] if at + 1 < len(files) else 0


def code_at(program: Program, address: int) -> bytes:
    """The bytes of the file that are loaded at a linear address; b"" for none."""
    try:
        for code, offset in debug_lines.loaded(program.image):
            if address in code:
                at = offset + address - code.start
                return program.image[at : min(at + LONGEST_INSTRUCTION, offset + len(code))]
    except struct.error:
        pass
    return b""


def _last_lines(table: LineTable) -> dict[int, int]:
    """The files that code is of, each with the last line that has any."""
    last: dict[int, int] = {}
    for _, file, line in table.places:
        if line > last.get(file, 0):
            last[file] = line
    # Blank lines stand for those of a file that is not here, or has changed; a number may claim more.
    return {file: min(line, 1 << 16) for file, line in last.items()}


def _shown(name: str) -> str:
    return os.path.basename(name.replace("\\", "/"))


def _read(name: str, folder: str, limit: int) -> list[str] | None:
    """The lines of a source file, None where it is not here."""
    if not name.lower().endswith(ENDINGS) or limit <= 0 or "\0" in name:
        return None
    beside = [os.path.join(folder, name), os.path.join(folder, os.path.basename(name))]
    for path in ([name] if os.path.isabs(name) else []) + beside:
        if not os.path.isfile(path):
            continue
        try:
            content = input_file.read(path, limit, "source file")
        except InputError:
            continue
        if len(content) <= limit:
            text = content.decode("utf-8", "replace").expandtabs(8)
            return [line[:LONGEST_LINE] for line in text.splitlines()]
    return None
