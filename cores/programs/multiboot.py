"""Kernels that start by Multiboot 1: ELF files of both widths, and files with address fields.

Source: Multiboot Specification 0.6.96. Like every file, a kernel is untrusted: all its numbers are
checked against the file and against RAM.
"""

from __future__ import annotations

import hashlib
import os
import shlex

from cores import input_file
from cores.errors import InputError
from cores.programs import debug_lines, elf
from cores.programs.multiboot_header import Addresses, MultibootHeader
from cores.programs.program import Module, Program, Segment, StartOptions

LONGEST_COMMAND_LINE = 4095
"""Bytes of the command line, and of a module's string."""
MOST_MODULES = 64
_LOWEST = 0x1000
_PAGE = 4096


def load(
    content: bytes, path: str, ram: int, header: MultibootHeader, options: StartOptions
) -> Program:
    """A kernel with its modules. Raises InputError in one sentence."""
    if header.unknown_demands:
        raise InputError(
            f"its Multiboot header demands something unknown: flags {header.flags:#x}", path
        )
    if header.graphics:
        raise InputError("its Multiboot header demands a graphics mode, and the PC has text only", path)
    if header.addresses is not None:
        kernel = _by_addresses(content, path, ram, header.at, header.addresses)
    elif content.startswith(elf.MAGIC):
        kernel = elf.parse_kernel(content, path, ram)
    else:
        raise InputError(
            "a Multiboot kernel that is no ELF file and has no address fields (flag 16)", path
        )
    if len(options.append) > LONGEST_COMMAND_LINE:
        raise InputError(f"--append: longer than {LONGEST_COMMAND_LINE} bytes")
    if b"\0" in options.append:
        raise InputError("--append: there is a NUL in it")
    modules = _modules(options.modules, ram)
    end = -(-max(s.gpa + s.size for s in kernel.segments) // _PAGE) * _PAGE
    needed = sum(-(-len(module.data) // _PAGE) * _PAGE for module in modules)
    if needed > ram - max(end, 1 << 20):
        raise InputError(
            f"--module: {needed:#x} bytes do not fit into RAM behind the kernel,"
            f" from {end:#x} to {ram:#x}"
        )
    return Program(
        path, "multiboot", kernel.entry, kernel.segments, hashlib.sha256(content).hexdigest(),
        kernel.symbols, ram=ram, append=options.append, modules=modules,
        image=content if debug_lines.has(content) else b"", folder=os.path.dirname(path),
    )  # fmt: skip


def _by_addresses(content: bytes, path: str, ram: int, at: int, fields: Addresses) -> elf.Executable:
    """A kernel that its header's address fields describe (3.1.3)."""
    offset = at - (fields.header - fields.load)
    end = fields.load_end or fields.load + len(content) - offset
    size = end - fields.load
    if fields.load > fields.header or offset < 0 or size <= 0 or offset + size > len(content):
        raise InputError(
            f"the address fields of its Multiboot header do not fit the file: loaded from"
            f" {fields.load:#x} to {end:#x}, with the header at {fields.header:#x}", path,
        )  # fmt: skip
    if fields.bss_end and fields.bss_end < end:
        raise InputError(
            f"the address fields of its Multiboot header contradict each other: bss ends at"
            f" {fields.bss_end:#x}, below {end:#x}", path,
        )  # fmt: skip
    top = fields.bss_end or end
    elf.check_place(fields.load, top, f"the kernel at {fields.load:#x}", path, range(_LOWEST, ram))
    if not fields.load <= fields.entry < top:
        raise InputError(f"the entry {fields.entry:#x} lies outside what is loaded", path)
    segment = Segment(fields.load, content[offset : offset + size], top - fields.load)
    return elf.Executable(fields.entry, (segment,), {})


def _modules(asked: tuple[str, ...], ram: int) -> tuple[Module, ...]:
    if len(asked) > MOST_MODULES:
        raise InputError(f"--module: more than {MOST_MODULES}")
    return tuple(_module(text, ram) for text in asked)


def _module(text: str, ram: int) -> Module:
    file = _file_of(text)
    string = text.encode("utf-8", "surrogateescape")
    if len(string) > LONGEST_COMMAND_LINE:
        raise InputError(f"--module: longer than {LONGEST_COMMAND_LINE} bytes")
    data = input_file.read(file, ram, "module")
    if len(data) > ram:
        raise InputError(f"too big: the module has more than {ram:#x} bytes", file)
    return Module(data, string)


def _file_of(text: str) -> str:
    """The first word of "FILE ARGS": up to the first blank, or a name in quotation marks."""
    if text[:1] in ("'", '"'):
        try:
            words = shlex.split(text)
        except ValueError:
            raise InputError(f"--module: an open quotation mark in {text!r}") from None
    else:
        words = text.split(maxsplit=1)
    if not words or not words[0]:
        raise InputError("--module: no file is named")
    return words[0]
