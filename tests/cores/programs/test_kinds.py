"""Files that are no guests are refused by their kind, with a reason that is true of them.

Made by gcc and ld where they are installed, else by hand from the formats' headers."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from test_elf import FIRST, image, segment

from cores.errors import InputError
from cores.programs.loader import load_program

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler here")


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_program(str(path))
    return caught.value.reason


def build(folder: Path, source: str, *options: str, suffix: str = ".c") -> Path:
    """A file made by gcc; skips where this gcc cannot make it (no static libc, no 32-bit code)."""
    (folder / f"in{suffix}").write_text(source)
    target = folder / "out"
    done = subprocess.run(
        ["gcc", *options, "-o", str(target), str(folder / f"in{suffix}")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"gcc {' '.join(options)}: {done.stderr.splitlines()[-1]}")
    return target


MAIN = "int main(void) { return 0; }\n"
START = "void _start(void) { for (;;); }\n"
BARE = ("-ffreestanding", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none")
MULTIBOOT = """
.section .text
.align 8
.long 0x1BADB002, 0x10003, -(0x1BADB002 + 0x10003), 0, 0, 0, 0, 0
.global _start
_start: hlt
"""
MULTIBOOT_2 = """
.section .text
.align 8
.long 0xE85250D6, 0, 16, -(0xE85250D6 + 16)
.global _start
_start: hlt
"""
SOLO5 = """
.section .note.solo5.abi, "a", @note
.long 6, 16, 0x31494241
.asciz "Solo5"
.align 4
.long 1, 2, 0, 0
.section .interp, "a"
.asciz "/nonexistent/solo5/"
.text
.global _start
_start: hlt
"""
UPPER = "-Wl,-Ttext=0xffffffff80100000"


@needs_gcc
@pytest.mark.parametrize(
    ("source", "options", "suffix", "reason"),
    [
        (MAIN, ("-static", "-no-pie", "-Wl,-N"), ".c", "the segment at 0x400"),
        (MAIN, ("-no-pie",), ".c", "not static: dynamically linked; link it with"),
        (MAIN, ("-fPIE", "-pie"), ".c", "not a static executable: position-independent (PIE)"),
        (MAIN, ("-static-pie",), ".c", "not a static executable: position-independent (PIE)"),
        (MAIN, ("-c",), ".c", "not a static executable: an object file; link it first"),
        (MAIN, ("-shared", "-fPIC"), ".c", "not a static executable: a shared object (a library)"),
        (START, (*BARE, "-mcmodel=kernel", "-fno-pic", UPPER), ".c",
         "linked to run at 0xffffffff80100000, in the upper half"),
        (START, (*BARE, "-m32"), ".c", "not x86-64: a 32-bit ELF file for 32-bit x86 (i386)"),
        (START, (*BARE, "-mx32"), ".c", "not x86-64: a 32-bit ELF file for the x32 ABI"),
        (MULTIBOOT, BARE, ".S", "the kernel at 0x0 lies below 0x1000"),
        (MULTIBOOT_2, BARE, ".S", "a Multiboot 2 kernel (64-bit ELF): Ringscope starts"),
        (SOLO5, BARE, ".S", "a Solo5 unikernel without a manifest"),
    ],
)  # fmt: skip
def test_what_compilers_make(
    source: str, options: tuple[str, ...], suffix: str, reason: str, tmp_path: Path
) -> None:
    """Each kind of ELF file is named by its kind, not by the first property that it lacks."""
    assert refusal(build(tmp_path, source, *options, suffix=suffix)).startswith(reason)


@needs_gcc
def test_a_loader_is_named(tmp_path: Path) -> None:
    """The refusal of a dynamic program names its loader."""
    assert "(it asks for the loader /" in refusal(build(tmp_path, MAIN, "-no-pie"))


@pytest.mark.parametrize("length", [0, 1, 200])
def test_a_loader_without_a_name(length: int, tmp_path: Path) -> None:
    """An empty PT_INTERP, or one of zeros alone, names no loader."""
    path = tmp_path / "program"
    content = image(segment(), segment(kind=3, offset=0x1002, in_file=length)) + bytes(200)
    path.write_bytes(content)
    assert refusal(path) == (
        "not static: dynamically linked; link it with -static -nostdlib -no-pie"
        " (it asks for a loader without a name)"
    )


@needs_gcc
def test_a_freestanding_program_runs(tmp_path: Path) -> None:
    """The compiler options that the refusals name make a guest of the same source."""
    program = load_program(str(build(tmp_path, START, *BARE, "-Wl,-Ttext=0x100000")))
    assert (program.format, program.entry) == ("elf", FIRST)


def elf32(machine: int, order: str = "<") -> bytes:
    ident = b"\x7fELF" + bytes([1, 1 if order == "<" else 2, 1]) + bytes(9)
    return ident + struct.pack(order + "HHIIIIIHHHHHH", 2, machine, 1, 0, 52, 0, 0, 52, 32, 0, 40, 0, 0)


def elf64(kind: int, machine: int, order: str = ">") -> bytes:
    ident = b"\x7fELF" + bytes([2, 1 if order == "<" else 2, 1]) + bytes(9)
    return ident + struct.pack(
        order + "HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, 0, 64, 0, 0
    )


def note(owner: bytes, kind: int, content: bytes, order: str = "<") -> bytes:
    name = owner + b"\0"
    return (
        struct.pack(order + "III", len(name), len(content), kind)
        + name.ljust(len(name) + 3 & -4, b"\0") + content.ljust(len(content) + 3 & -4, b"\0")
    )  # fmt: skip


def with_note(owner: bytes, kind: int, content: bytes) -> bytes:
    body = note(owner, kind, content)
    return image(segment(), segment(kind=4, offset=0x1002, in_file=len(body))) + body


ELF = {
    "ARM": (elf32(40), "not x86-64: a 32-bit ELF file for 32-bit ARM"),
    "RISC-V": (elf64(2, 243, "<"), "not x86-64: a 64-bit ELF file for RISC-V"),
    "MIPS": (elf32(8, ">"), "not x86-64: a 32-bit ELF file for MIPS"),
    "S/390": (elf64(2, 22), "not x86-64: a 64-bit ELF file for IBM S/390"),
    "68000": (elf32(4, ">"), "not x86-64: a 32-bit ELF file for the Motorola 68000"),
    "unknown": (elf64(2, 999, "<"), "not x86-64: a 64-bit ELF file for machine 999"),
    "big-endian x86": (elf64(2, 62), "not x86-64: a big-endian ELF file"),
    "core": (elf64(4, 62, "<"), "not a static executable: a core dump"),
    "spt": (
        with_note(b"Solo5", 0x31494241, struct.pack("<4I", 2, 1, 0, 0)),
        "a Solo5 unikernel (spt, AB",
    ),
    "manifest": (
        with_note(b"Solo5", 0x3154464D, bytes(8)),
        "a Solo5 unikernel that does not say for which target it is",
    ),
    "Go": (with_note(b"Go", 4, b"abc"), "a static program for an operating system (it is Go's)"),
    "FreeBSD": (with_note(b"FreeBSD", 1, bytes(4)), "a static program for FreeBSD"),
}


@pytest.mark.parametrize("kind", ELF)
def test_elf_by_hand(kind: str, tmp_path: Path) -> None:
    """Kinds of ELF file that no compiler here makes are named, too."""
    content, reason = ELF[kind]
    (tmp_path / "a").write_bytes(content)
    assert refusal(tmp_path / "a").startswith(reason)


def bz_image() -> bytes:
    return b"MZ" + bytes(508) + b"\x55\xaa" + bytes(2) + b"HdrS" + bytes(600)


def pe() -> bytes:
    return b"MZ" + bytes(0x3A) + struct.pack("<I", 0x80) + bytes(0x40) + b"PE\0\0" + bytes(64)


def dos() -> bytes:
    return b"MZ" + struct.pack("<HH", 100, 2) + bytes(606)


def packed(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a", "b")
    else:
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("a"))
    return file.getvalue()


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "script": (lambda: b"#!/bin/sh\necho\n", "a script, not a guest"),
    "python": (lambda: b"print('no guest at all')\n" * 3, 'text, not a flat image: a file of assembly'),
    "gzip": (lambda: gzip.compress(b"x"), "compressed by gzip: unpack it first"),
    "xz": (lambda: lzma.compress(b"x"), "compressed by xz: unpack it first"),
    "bzip2": (lambda: bz2.compress(b"x"), "compressed by bzip2: unpack it first"),
    "zip": (lambda: packed("zip"), "a ZIP archive: unpack it first"),
    "tar": (lambda: packed("tar"), "a tar archive: unpack it first"),
    "ar": (lambda: b"!<arch>\n" + bytes(60), "a library of object files"),
    "Mach-O": (lambda: b"\xcf\xfa\xed\xfe" + bytes(60), "a 64-bit Mach-O file (macOS), not a guest"),
    "universal": (lambda: b"\xca\xfe\xba\xbe\0\0\0\2" + bytes(60), "a Mach-O file for several CPUs"),
    "Java": (lambda: b"\xca\xfe\xba\xbe\0\0\0\x41" + bytes(60), "a Java class, not a guest"),
    "WebAssembly": (lambda: b"\0asm\1\0\0\0", "a WebAssembly module, not a guest"),
    "PE": (pe, "a PE file, for Windows or UEFI: this version starts none"),
    "DOS": (dos, "a DOS program (MZ): this version starts none"),
    "COFF": (lambda: struct.pack("<HHIIIHH", 0x8664, 1, 0, 60, 1, 0, 0) + bytes(58), "an object file"),
    "a.out": (lambda: struct.pack("<HBxII", 0o413, 100, 0, 0) + bytes(20), "an a.out program"),
    "bzImage": (bz_image, "a Linux kernel (bzImage): this version does not start Linux"),
    "qcow2": (lambda: b"QFI\xfb" + bytes(60), "a QEMU disk image (qcow2), not a guest"),
    "ISO": (lambda: bytes(0x8001) + b"CD001", "a CD image (ISO 9660), not a guest"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_other_files(kind: str, tmp_path: Path) -> None:
    """A file with a known magic number, and a text, are not run as a flat image."""
    made, reason = FILES[kind]
    (tmp_path / "a.bin").write_bytes(made())
    assert refusal(tmp_path / "a.bin").startswith(reason)


def test_disks(tmp_path: Path) -> None:
    """A bootable disk is recognized by its name and its signature; Ringscope's own is one."""
    from cores.pc.boot.disk_image import write_image

    (tmp_path / "guest.bin").write_bytes(b"\xf4")
    write_image(load_program(str(tmp_path / "guest.bin")), str(tmp_path / "a.img"), ram=16 << 20)
    assert load_program(str(tmp_path / "a.img")).format == "disk"


FLAT = {
    "pop r10": b"MZ\x90\xf4" + bytes(100),
    "signature": bytes(510) + b"\x55\xaa",
    "short text": b"PQRS\n",
    "printable": b"PX" * 40,
    "an unlucky magic": struct.pack("<3I", 0x1BADB002, 0x90909090, 7),
    "an unlucky magic at the end": bytes(8) + struct.pack("<I", 0x1BADB002),
}


@pytest.mark.parametrize("kind", FLAT)
def test_flat_images(kind: str, tmp_path: Path) -> None:
    """Code that begins like another format runs as a flat image."""
    (tmp_path / "a.bin").write_bytes(FLAT[kind])
    assert load_program(str(tmp_path / "a.bin")).format == "flat"
