"""The loader: from a file, or from source text, to a ``Program``."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import replace

from cores import input_file
from cores.errors import InputError
from cores.programs import (
    debug_lines,
    elf,
    elf_kind,
    file_kind,
    linux_program,
    multiboot,
    shipped,
    solo5,
)
from cores.programs.multiboot_header import find_header, miswritten_header
from cores.programs.program import (
    DEFAULT_RAM,
    KERNEL_RAM,
    LARGEST_SOURCE,
    LOAD_ADDRESS,
    M68K_DEVICES,
    M68K_LOAD_ADDRESS,
    PLAIN,
    Program,
    Segment,
    StartOptions,
)

_READ_AT_ONCE = 1 << 20
SECTOR = 512
_BOOT_SECTOR = 0x7C00
_ROM_SIZES = (64 << 10, 128 << 10)

SAVED_SESSION = b"Ringscope session "
"""Magic of a saved session's file, whatever its version (cores/debugging/saved_session.py)."""


def load_program(
    path: str,
    ram: int | None = None,
    stdin: bytes | None = None,
    options: StartOptions = PLAIN,
) -> Program:
    """Read the program that a user named, for a machine with ``ram`` bytes; None: as many as its kind
    has by default.

    Recognized by content and ending: a Multiboot header; ELF by its magic number, and what is for Linux
    by its notes; ``.s``, ``.asm`` and
    "-" assembly; ``.m68k``; ``.img`` with a boot sector's signature; any other file is a flat image.
    stdin: the content of "-"; None: read standard input.
    Raises InputError with one sentence for any file that cannot be run."""
    program = _load(path, ram, stdin, options)
    for given, formats, whom in (
        ("--module" if options.modules else "", ("multiboot",), "kernels that start by Multiboot"),
        ("--append" if options.append else "", ("multiboot", "linux", "solo5"),
            "kernels that start by Multiboot, for Linux programs and unikernels"),
        ("--linux" if options.linux else "", ("linux",), "static Linux programs (ELF64)"),
        ("--files" if options.files else "", ("linux",), "static Linux programs"),
    ):  # fmt: skip
        if given and program.format not in formats:
            raise InputError(f"{given} is for {whom}", path)
    return program if program.recognized else replace(program, recognized=_recognized(program, options))


def _recognized(program: Program, options: StartOptions) -> str:
    """What the program is taken for, and why."""
    match program.format:
        case "asm":
            return "assembly, " + ("from standard input" if program.path == "-" else "by its name")
        case "elf":
            hint = " with a C library: if it is for Linux, say --linux"  # musl's programs have no note
            return "ELF64" + (hint if "__libc_start_main" in program.symbols else "")
        case "disk" | "rom":
            what = "a disk image" if program.format == "disk" else "a ROM"
            return what + (f", by --boot {options.boot}" if options.boot else ", by its name and 55 AA")
    return _TAKEN_FOR.get(program.format, "a flat image: it has no format")


_TAKEN_FOR = {
    "m68k": "a Motorola 68000 image, by its name",
    "multiboot": "a kernel, by its Multiboot 1 header",
    "solo5": "a Solo5 unikernel for hvt, by its notes",
}


def _load(path: str, wanted: int | None, stdin: bytes | None, options: StartOptions) -> Program:
    if options.boot == "disk" or (not options.boot and _is_disk(path)):
        return _load_disk(path, wanted or KERNEL_RAM)
    ram = wanted or DEFAULT_RAM
    limit = max(wanted or KERNEL_RAM, LARGEST_SOURCE)
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
    if options.boot == "rom":
        return _load_rom(content, path, ram)
    ending = os.path.splitext(path)[1].lower()
    if content.startswith(elf.MAGIC) and elf_kind.is_solo5(content):
        return solo5.load(content, path, wanted or KERNEL_RAM, options)
    if path != "-" and ending not in (".s", ".asm", ".m68k"):
        if (header := find_header(content)) is not None:
            return multiboot.load(content, path, wanted or KERNEL_RAM, header, options)
        if (at := miswritten_header(content)) is not None:
            raise InputError(f"the Multiboot header at offset {at:#x} has a wrong checksum", path)
    if content.startswith(elf.MAGIC):
        if options.linux or elf_kind.is_for_linux(content):
            return linux_program.load(content, path, wanted or KERNEL_RAM, options)
        return _load_elf(content, path, ram)
    if path == "-" or ending in (".s", ".asm"):
        return assemble_program(content, path, ram)
    if ending == ".m68k":
        return _load_flat(content, path, "m68k", M68K_LOAD_ADDRESS, min(ram, M68K_DEVICES))
    if (reason := file_kind.refusal(content, ending)) is not None:
        raise InputError(reason, path)
    return _load_flat(content, path, "flat", LOAD_ADDRESS, ram)


def assemble_program(content: bytes, path: str, ram: int = DEFAULT_RAM) -> Program:
    """Assemble source text, or find its image if it is a shipped guest and Keystone, which the images
    are by, is not here."""
    from cores.programs.assembler import choice

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError("not text: assembly source is UTF-8", path, line) from None
    assembler = choice.chosen()
    own = assembler is None or not (assembler.named or assembler.name == choice.KEYSTONE)
    if own and (found := shipped.image_of(content)) is not None:
        image = found
    elif assembler is not None:
        image = choice.assemble(text, path, LOAD_ADDRESS)
    else:
        raise InputError(
            "there is no assembler here: only the guests that come with Ringscope, ELF files and flat"
            f" images run. For others {choice.HINT}", path,
        )  # fmt: skip
    if not image.code:
        raise InputError("empty: no instruction in it", path)
    segment = _fitting(image.code, path, LOAD_ADDRESS, ram)
    source = tuple(line.rstrip("\r") for line in text.split("\n"))
    return Program(
        path, "asm", image.entry, (segment,), _sha256(content), image.symbols, image.lines, source, ram
    )


def _load_elf(content: bytes, path: str, ram: int) -> Program:
    found = elf.parse(content, path, LOAD_ADDRESS, ram)
    return Program(
        path, "elf", found.entry, found.segments, _sha256(content), found.symbols, ram=ram,
        image=content if debug_lines.has(content) else b"", folder=os.path.dirname(path),
    )  # fmt: skip


def _load_flat(content: bytes, path: str, kind: str, address: int, ram: int) -> Program:
    segment = _fitting(content, path, address, ram)
    return Program(path, kind, address, (segment,), _sha256(content), ram=ram)


def _is_disk(path: str) -> bool:
    """Is it named ``.img``, and does its first sector end in a boot sector's signature?"""
    return path.lower().endswith(".img") and _boot_sector(path)[SECTOR - 2 :] == file_kind.SIGNATURE


def _boot_sector(path: str) -> bytes:
    """The first sector of an image, which may be larger than memory; less where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(SECTOR)
    except (OSError, ValueError):
        return b""


def _load_disk(path: str, ram: int) -> Program:
    """The boot sector of a disk image; the machine has the whole image as its first disk."""
    sector = _boot_sector(path)
    if not sector:
        input_file.read(path, SECTOR, "disk image")  # says why it cannot be read
        raise InputError("the disk image is empty", path)
    if sector[SECTOR - 2 :] != file_kind.SIGNATURE:
        raise InputError("not bootable: the disk's first sector does not end in 55 AA", path)
    segment = Segment(_BOOT_SECTOR, sector, SECTOR)
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"the disk image cannot be read: {error.strerror}", path) from None
    return Program(path, "disk", _BOOT_SECTOR, (segment,), digest, ram=ram)


def _load_rom(content: bytes, path: str, ram: int) -> Program:
    if len(content) not in _ROM_SIZES:
        raise InputError(f"a ROM has 64 or 128 KiB; this file has {len(content):,} bytes", path)
    segment = Segment(LOAD_ADDRESS - len(content), content, len(content))
    return Program(path, "rom", 0xFFFF0, (segment,), _sha256(content), ram=ram)


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
