"""Kinds of file that are not flat images, though they could be loaded as one: named, and refused.

A flat image has no magic number, so any file could be one; a ZIP archive loaded at 0x100000 runs to an
unexplained shutdown. Each test here requires more matching bytes than code has by chance.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from cores.programs.multiboot_header import is_multiboot_2, multiboot_2_refusal

SECTOR = 512
SIGNATURE = b"\x55\xaa"

_MAGICS = (
    (0, b"#!", "a script"),
    (0, b"\x1f\x8b\x08", "compressed by gzip: unpack it first"),
    (0, b"\xfd7zXZ\0", "compressed by xz: unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4: unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (0, b"PK\x03\x04", "a ZIP archive: unpack it first"),
    (257, b"ustar", "a tar archive: unpack it first"),
    (0, b"!<arch>\n", "a library of object files (ar): link it into a program first"),
    (0, b"!<thin>\n", "a library of object files (ar): link it into a program first"),
    (0, b"BC\xc0\xde", "LLVM bitcode: compile and link it first"),
    (0, b"\0asm", "a WebAssembly module"),
    (0, b"dex\n", "Android bytecode"),
    (0, b"\xcf\xfa\xed\xfe", "a 64-bit Mach-O file (macOS)"),
    (0, b"\xce\xfa\xed\xfe", "a 32-bit Mach-O file (macOS)"),
    (0, b"\xfe\xed\xfa\xcf", "a big-endian Mach-O file"),
    (0, b"\xfe\xed\xfa\xce", "a big-endian Mach-O file"),
    (0, b"QFI\xfb", "a QEMU disk image (qcow2)"),
    (0, b"KDMV", "a VMware disk image (VMDK)"),
    (0, b"vhdxfile", "a Hyper-V disk image (VHDX)"),
    (0x40, b"\x7f\x10\xda\xbe", "a VirtualBox disk image (VDI)"),
    (0x8001, b"CD001", "a CD image (ISO 9660)"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\x89PNG\r\n", "a picture (PNG)"),
)
"""(offset, magic bytes, kind of file)."""


def refusal(content: bytes, ending: str) -> str | None:
    """The reason why a file is not a flat image, beginning with its kind; None if it may be one.

    ending: of the file's name, lower case, with its dot."""
    for test in _TESTS:
        if (what := test(content)) is not None:
            return what
    for at, magic, what in _MAGICS:
        if content.startswith(magic, at):
            return f"{what}, not a guest" if ":" not in what else what
    return _text(content)


def _multiboot(content: bytes) -> str | None:
    return multiboot_2_refusal() if is_multiboot_2(content) else None


def _linux(content: bytes) -> str | None:
    """A Linux kernel (Documentation/arch/x86/boot.rst), which may be a PE file as well."""
    if content[0x202:0x206] == b"HdrS" and content[SECTOR - 2 : SECTOR] == SIGNATURE:
        return "a Linux kernel (bzImage): this version does not start Linux"
    return None


def _pe(content: bytes) -> str | None:
    """A PE file. MZ alone is `pop r10`, so the rest of the header is tested too (PE format, MS-DOS
    stub)."""
    if content[:2] != b"MZ" or len(content) < 0x40:
        return None
    at = int.from_bytes(content[0x3C:0x40], "little")
    if content[at : at + 4] == b"PE\0\0":
        return "a PE file, for Windows or UEFI: this version starts none"
    last, pages = struct.unpack_from("<HH", content, 2)
    size = pages * SECTOR - (SECTOR - last if last else 0)
    return (
        "a DOS program (MZ): this version starts none"
        if last < SECTOR and size == len(content)
        else None
    )


def _coff(content: bytes) -> str | None:
    """An object file of Windows compilers, and of NASM's -f win64 (PE format, COFF file header)."""
    if len(content) < 20:
        return None
    machine, sections, _, symbols, count, optional, _ = struct.unpack_from("<HHIIIHH", content)
    inside = 20 + 40 * sections <= symbols and symbols + 18 * count <= len(content)
    if machine in (0x14C, 0x8664) and 0 < sections < 96 and optional == 0 and count and inside:
        return "an object file (COFF): link it first"
    return None


def _a_out(content: bytes) -> str | None:
    """The old format of Linux and BSD (a.out.h): magic 0407 to 0413 or 0314 and a machine number."""
    if len(content) < 32:
        return None
    magic, machine, text, data = struct.unpack_from("<HBxII", content)
    known = magic in (0o407, 0o410, 0o413, 0o314) and machine in (100, 134)
    return (
        "an a.out program: this version starts none" if known and text + data <= len(content) else None
    )


def _cafebabe(content: bytes) -> str | None:
    """Java's class files and Mach-O's universal files have the same magic; the next word is a version,
    or the number of CPUs."""
    if not content.startswith(b"\xca\xfe\xba\xbe"):
        return None
    word = int.from_bytes(content[4:8], "big")
    return (
        "a Mach-O file for several CPUs (macOS), not a guest"
        if word < 40
        else "a Java class, not a guest"
    )


def _bzip2(content: bytes) -> str | None:
    if content[:3] == b"BZh" and content[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "compressed by bzip2: unpack it first"
    return None


_SHORTEST_TEXT = 24


def _text(content: bytes) -> str | None:
    """Text of several lines; code of that length has other bytes."""
    if len(content) < _SHORTEST_TEXT or b"\n" not in content:
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if all(c.isprintable() or c in "\n\r\t\f" for c in text.removeprefix("\ufeff")):
        return 'text, not a flat image: a file of assembly ends in ".s" or ".asm"'
    return None


_TESTS: tuple[Callable[[bytes], str | None], ...] = (
    _linux, _multiboot, _pe, _coff, _a_out, _cafebabe, _bzip2,
)  # fmt: skip
