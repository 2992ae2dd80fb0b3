"""Kinds of ELF file that cannot be started, recognized by their headers and notes.

A sentence about one missing property ("dynamically linked") misleads users who have built a unikernel,
a Multiboot kernel or a Linux program, so the message names the kind first. Damaged files are left to
elf.py: this module reads only what lies inside the file, and names only kinds that it can recognize
(gABI ch. 4 and 5; Multiboot 0.6.96, 3.1; Multiboot 2, 3.1.1; Solo5's
bindings/../include/solo5/elf_abi.h).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from cores.programs.multiboot_header import is_multiboot_2, multiboot_2_refusal

_64_BIT, _BIG_ENDIAN = 2, 2
_X86_64, _I386 = 62, 3
_RELOCATABLE, _EXECUTABLE, _DYNAMIC, _CORE = 1, 2, 3, 4
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_DT_SONAME, _DT_FLAGS_1, _DF_1_PIE = 14, 0x6FFFFFFB, 0x08000000
_UPPER_HALF = 0xFFFF_8000_0000_0000
_LONGEST_NAME = 80
_MOST_NOTES = 1000
"""Most notes read in a file: 65,534 headers of a hostile one may name the same megabytes of empty
notes."""

_CPUS = {
    2: "SPARC", _I386: "32-bit x86 (i386)", 4: "the Motorola 68000", 8: "MIPS", 20: "PowerPC",
    21: "64-bit PowerPC", 22: "IBM S/390", 40: "32-bit ARM", 42: "SuperH", 43: "64-bit SPARC",
    50: "Itanium", _X86_64: "x86-64", 83: "AVR", 94: "Xtensa", 183: "64-bit ARM (AArch64)",
    243: "RISC-V", 247: "eBPF", 258: "LoongArch",
}  # fmt: skip
"""e_machine, gABI ch. 4 and binutils' include/elf/common.h."""
_SYSTEMS = {2: "NetBSD", 3: "Linux", 6: "Solaris", 9: "FreeBSD", 12: "OpenBSD"}
"""EI_OSABI."""
_GNU_SYSTEMS = {0: "Linux", 1: "the Hurd", 2: "Solaris", 3: "FreeBSD"}
"""First word of a GNU ABI-tag note."""
_SOLO5_TARGETS = {1: "hvt", 2: "spt", 3: "virtio", 4: "muen", 5: "genode", 6: "xen"}
_SOLO5_STARTED = (1, 2)
"""Target and ABI version that are started."""
_SOLO5_ABI, _SOLO5_MANIFEST = 0x31494241, 0x3154464D
_GNU_ABI_TAG, _GO_BUILD_ID = 1, 4
_GO = "an operating system (it is Go's)"


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    linear: int
    physical: int
    in_file: int
    in_memory: int


@dataclass(frozen=True, slots=True)
class _Header:
    """The ELF header. bits: 32 or 64. order: of bytes, as in struct. segments: none if the file is
    truncated."""

    bits: int
    order: str
    kind: int
    machine: int
    entry: int
    segments: tuple[_Segment, ...]


def refusal(image: bytes) -> str | None:
    """The reason why an ELF file cannot be started, beginning with its kind; None for a static x86-64
    executable that calls no operating system, and for files too damaged to recognize."""
    header = _header(image)
    if header is None:
        return None
    return (
        _unikernel(image, header)
        or _multiboot(image, header)
        or _foreign(header)
        or _unlinked(image, header)
        or _of_a_system(image, header)
        or _elsewhere(header)
    )


def kernel_refusal(image: bytes) -> str | None:
    """The reason why an ELF file with a Multiboot header cannot be started, or None."""
    header = _header(image)
    if header is None:
        return None
    if (header.machine, header.bits, header.order) not in ((_I386, 32, "<"), (_X86_64, 64, "<")):
        cpu = _CPUS.get(header.machine, f"machine {header.machine}")
        return f"a Multiboot kernel in a {header.bits}-bit ELF file for {cpu}, not for x86"
    return _unlinked(image, header)


def is_solo5(image: bytes) -> bool:
    """Is it a Solo5 unikernel for hvt, of the ABI version that is started?"""
    header = _header(image)
    return (
        header is not None
        and _foreign(header) is None
        and _solo5_target(image, header) == _SOLO5_STARTED
    )


def solo5_manifest(image: bytes) -> bytes | None:
    """The manifest (struct mft) in a Solo5 unikernel's notes: from the next multiple of 8 behind the
    note's name on."""
    header = _header(image)
    if header is not None:
        for segment in header.segments:
            owner, length, kind = struct.unpack("<III", image[segment.offset :][:12].ljust(12, b"\0"))
            start = segment.offset + 12 + (owner + 3 & -4)
            if (
                segment.kind == _PT_NOTE and kind == _SOLO5_MANIFEST
                and image[segment.offset + 12 :][:6] == b"Solo5\0"
            ):  # fmt: skip
                return image[start + 7 & -8 : start + length]
    return None


def is_for_linux(image: bytes) -> bool:
    """Does a note of the file say that it is a program for Linux, or its header, as it does where GNU's
    indirect functions are in it?"""
    header = _header(image)
    return header is not None and _system(image, header) == "Linux"


def linux_refusal(image: bytes) -> str | None:
    """The reason why an ELF file is not a static Linux program that can be started, or None."""
    header = _header(image)
    if header is None:
        return None
    if header.machine == _I386 or (header.machine == _X86_64 and header.bits == 32):
        abi = "i386" if header.machine == _I386 else "x32"
        return (
            f"a 32-bit program ({abi}): compile it for x86-64 (-m64) and link it with -static -no-pie"
        )
    if (
        reason := _unikernel(image, header) or _foreign(header) or _unlinked(image, header)
    ) is not None:
        return reason
    if any(segment.kind in (_PT_INTERP, _PT_DYNAMIC) for segment in header.segments):
        return "not static: dynamically linked; link it with -static -no-pie" + _for_whom(image, header)
    system = _system(image, header)
    return f"a program for {system}, not for Linux" if system not in ("", "Linux", _GO) else None


def _header(image: bytes) -> _Header | None:
    order = ">" if image[5:6] == bytes([_BIG_ENDIAN]) else "<"
    bits = 64 if image[4:5] == bytes([_64_BIT]) else 32
    layout = struct.Struct(order + ("16xHHIQQQIHHHHHH" if bits == 64 else "16xHHIIIIIHHHHHH"))
    if len(image) < layout.size:
        return None
    kind, machine, _, entry, at, _, _, _, size, count, *_ = layout.unpack_from(image)
    return _Header(
        bits, order, kind, machine, entry, tuple(_segments(image, bits, order, at, size, count))
    )


def _segments(
    image: bytes, bits: int, order: str, at: int, size: int, count: int
) -> Iterator[_Segment]:
    layout = struct.Struct(order + ("IIQQQQQQ" if bits == 64 else "IIIIIIII"))
    if size != layout.size or at + size * count > len(image):
        return
    for fields in layout.iter_unpack(image[at : at + size * count]):
        if bits == 64:
            kind, _, offset, linear, physical, in_file, in_memory, _ = fields
        else:
            kind, offset, linear, physical, in_file, in_memory, _, _ = fields
        yield _Segment(kind, offset, linear, physical, in_file, in_memory)


def _notes(image: bytes, header: _Header) -> Iterator[tuple[bytes, int, bytes]]:
    """(owner, type, the descriptor's beginning) of the first notes in the file's PT_NOTE segments."""
    return islice(_all_notes(image, header), _MOST_NOTES)


def _all_notes(image: bytes, header: _Header) -> Iterator[tuple[bytes, int, bytes]]:
    layout = struct.Struct(header.order + "III")
    for segment in header.segments:
        if segment.kind != _PT_NOTE:
            continue
        at, end = segment.offset, min(segment.offset + segment.in_file, len(image))
        while at + layout.size <= end:
            owner, length, kind = layout.unpack_from(image, at)
            name = at + layout.size
            content = name + (owner + 3 & -4)
            words = image[content : content + min(length, 16)]
            yield image[name : name + min(owner, 16)].rstrip(b"\0"), kind, words
            at = content + (length + 3 & -4)


def _unikernel(image: bytes, header: _Header) -> str | None:
    target = _solo5_target(image, header)
    if target is not None and target != _SOLO5_STARTED:
        name = _SOLO5_TARGETS.get(target[0], f"target {target[0]}")
        kind = f"a Solo5 unikernel ({name}, ABI version {target[1]})"
        return f"{kind}: Ringscope starts those for hvt, version 2"
    if any(owner == b"Solo5" for owner, _, _ in _notes(image, header)) and target is None:
        return "a Solo5 unikernel that does not say for which target it is"
    return None


def _solo5_target(image: bytes, header: _Header) -> tuple[int, int] | None:
    """Target and version of the file's Solo5 ABI note."""
    for owner, kind, content in _notes(image, header):
        if owner == b"Solo5" and kind == _SOLO5_ABI and len(content) >= 8:
            target, version = struct.unpack_from(header.order + "II", content)
            return target, version
    return None


def _multiboot(image: bytes, header: _Header) -> str | None:
    return multiboot_2_refusal(f" ({header.bits}-bit ELF)") if is_multiboot_2(image) else None


def _foreign(header: _Header) -> str | None:
    """The refusal of code for another CPU, or for 32-bit mode."""
    cpu = _CPUS.get(header.machine, f"machine {header.machine}")
    if header.machine == _I386:
        return f"not x86-64: a 32-bit ELF file for {cpu}, without the Multiboot header of a kernel"
    if header.machine != _X86_64:
        return f"not x86-64: a {header.bits}-bit ELF file for {cpu}"
    if header.bits == 32:
        return "not x86-64: a 32-bit ELF file for the x32 ABI"
    return "not x86-64: a big-endian ELF file" if header.order == ">" else None


def _unlinked(image: bytes, header: _Header) -> str | None:
    """The refusal of a file that is not an executable at a fixed address."""
    match header.kind:
        case k if k == _RELOCATABLE:
            return "not a static executable: an object file; link it first (ld -static)"
        case k if k == _CORE:
            return "not a static executable: a core dump, not a program"
        case k if k == _DYNAMIC and _is_program(image, header):
            return (
                "not a static executable: position-independent (PIE); link it with -static -no-pie"
                + _for_whom(image, header)
            )
        case k if k == _DYNAMIC:
            return "not a static executable: a shared object (a library)"
        case k if k != _EXECUTABLE:
            return f"not a static executable: ELF type {k}"
    return None


def _is_program(image: bytes, header: _Header) -> bool:
    """Whether it is a position-independent program, not a library: DF_1_PIE is set, or (older linkers)
    it has a PT_INTERP loader and no DT_SONAME."""
    for segment in header.segments:
        if segment.kind == _PT_DYNAMIC:
            content = image[segment.offset : segment.offset + segment.in_file]
            tags = dict(struct.iter_unpack(header.order + "qQ", content[: len(content) & -16]))
            if tags.get(_DT_FLAGS_1, 0) & _DF_1_PIE:
                return True
            return _interpreter(image, header) is not None and _DT_SONAME not in tags
    return _interpreter(image, header) is not None


def _interpreter(image: bytes, header: _Header) -> str | None:
    """The loader that PT_INTERP names, "" where it names none; None without PT_INTERP."""
    for segment in header.segments:
        if segment.kind == _PT_INTERP:
            name = image[segment.offset : segment.offset + min(segment.in_file, _LONGEST_NAME)]
            return name.rstrip(b"\0").decode("latin-1")
    return None


def _for_whom(image: bytes, header: _Header) -> str:
    match _interpreter(image, header):
        case None:
            return ""
        case "":
            return " (it asks for a loader without a name)"
        case loader:
            return f" (it asks for the loader {loader})"


def _of_a_system(image: bytes, header: _Header) -> str | None:
    """The refusal of a program that calls the kernel of an operating system."""
    if any(segment.kind in (_PT_INTERP, _PT_DYNAMIC) for segment in header.segments):
        how = "-static -no-pie" if _system(image, header) else "-static -nostdlib -no-pie"
        return f"not static: dynamically linked; link it with {how}" + _for_whom(image, header)
    system = _system(image, header)
    if not system:
        return None
    if system == _GO:
        return f"a static program for {system}; if that is Linux, say --linux"
    return (
        f"a static program for {system}: it calls that system's kernel, and Ringscope has one for Linux"
        " alone; build it freestanding (-ffreestanding -nostdlib)"
    )


def _system(image: bytes, header: _Header) -> str:
    """The operating system that the file says it is for; "" where it says none."""
    system = _SYSTEMS.get(image[7], "")
    for owner, kind, content in _notes(image, header):
        if owner == b"GNU" and kind == _GNU_ABI_TAG and len(content) >= 4:
            system = _GNU_SYSTEMS.get(struct.unpack_from(header.order + "I", content)[0], "Unix")
        elif owner in (b"FreeBSD", b"NetBSD", b"OpenBSD"):
            system = owner.decode()
        elif owner == b"Go" and kind == _GO_BUILD_ID:
            system = system or _GO
    return system


def _elsewhere(header: _Header) -> str | None:
    """The refusal of a program linked to run at addresses where none of it is loaded."""
    loaded = [s for s in header.segments if s.kind == _PT_LOAD and s.in_memory]
    if any(s.physical <= header.entry < s.physical + s.in_memory < _UPPER_HALF for s in loaded):
        return None
    for segment in loaded:
        if segment.linear <= header.entry < segment.linear + segment.in_memory:
            if header.entry >= _UPPER_HALF:
                where = "in the upper half of the address space"
            elif segment.linear != segment.physical:
                where = f"and to be loaded at {segment.physical:#x}"
            else:
                return None
            return (
                f"linked to run at {header.entry:#x}, {where}: guests begin with RAM mapped at its"
                " physical addresses only; link it from 0x100000 up"
            )
    return None
