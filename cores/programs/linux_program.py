"""Static Linux programs: a program, its arguments and its files, packed for the guest kernel.

The guest kernel (assets/linux) is loaded like any guest. At ``PACKED`` lies what it is to run, as one
image, which this module lays out: a header (``struct start`` of assets/linux/kernel.h), the program's
segments and its first stack, and the files that it may read. The kernel relies on these numbers, so all
of them are checked here.

Sources: System V ABI, AMD64 supplement, 3.4.1 (the first stack); getauxval(3).
"""

from __future__ import annotations

import hashlib
import os
import shlex
import struct
from collections.abc import Iterable
from functools import cache
from itertools import pairwise

from cores.errors import InputError
from cores.programs import debug_lines, elf, elf_kind
from cores.programs.linux_files import PackedFile, files_of
from cores.programs.program import LOAD_ADDRESS, Program, Segment, StartOptions
from cores.programs.shipped import ASSETS

KERNEL = ASSETS / "linux" / "kernel.elf"
PACKED = 0x200000
"""Physical address of the packed image, behind the kernel's place."""
USER = range(0x200000, 0x7000_0000_0000)
"""Linear addresses of the program (USER_BEGIN and USER_END in kernel.h)."""
_FOR_SEGMENTS = range(USER.start, USER.stop - (32 << 20))
"""Above are its stack and what it maps."""
LONGEST_ARGUMENTS = 4095
_PAGE = 4096
_LEAST_FREE = 2 << 20
"""RAM that is left for the program's pages and their tables, at least."""

_START, _SEGMENT, _FILE = struct.Struct("<8Q"), struct.Struct("<5Q"), struct.Struct("<4Q")
_PF_X, _PF_W, _PF_R = 1, 2, 4
_RIGHTS = {_PF_R: 1, _PF_W: 2, _PF_X: 4}
"""The rights of mmap(2) by those of a segment."""
_LIBRARIES = {
    "glibc": b"GLIBC_TUNABLES",
    "musl": b"__init_libc",
    "Rust": b"/rustc/",
    "Go": b"\xff Go buildinf:",
}
"""What betrays the libraries that a program is linked with: text in it, or a symbol."""
_ENVIRONMENT = (b"PATH=/", b"HOME=/")
_RANDOM = hashlib.sha256(b"AT_RANDOM").digest()[:16]
"""The same in each run, so that all cores can be compared."""
_FEATURES = 0x0700A379
"""AT_HWCAP: EDX of CPUID leaf 1, of which programs ask CPUID itself."""


def load(content: bytes, path: str, ram: int, options: StartOptions) -> Program:
    """A static Linux program with its arguments and files. Raises InputError in one sentence."""
    if (reason := elf_kind.linux_refusal(content)) is not None:
        raise InputError(reason, path)
    loads, entry, symbols = elf.read_loads(content, path)
    loads.sort(key=lambda load: load.linear)
    _check(loads, entry, path)
    stack = _first_stack(_arguments(path, options.append), _auxiliary(content, loads, entry))
    files = files_of(options.files, ram) if options.files else ()
    packed = _packed(content, loads, entry, stack, files)
    if PACKED + len(packed) > ram - _LEAST_FREE:
        raise InputError(
            f"too big: program and files take {len(packed):#x} bytes of the {ram:#x} of RAM;"
            " --ram makes it larger", path,
        )  # fmt: skip
    kernel = guest_kernel()
    segments = (*kernel.segments, Segment(PACKED, packed, len(packed)))
    return Program(
        path, "linux", kernel.entry, segments, hashlib.sha256(content).hexdigest(),
        kernel.symbols | symbols, ram=ram, append=options.append,
        image=content if debug_lines.has(content) else b"", folder=os.path.dirname(path),
        recognized=_recognized(content, symbols),
    )  # fmt: skip


def _recognized(content: bytes, symbols: dict[str, int]) -> str:
    """What the program is taken for, and why: "ELF64 for Linux (--linux), static, musl"."""
    why = "its notes" if elf_kind.is_for_linux(content) else "--linux"
    found = (n for n, t in _LIBRARIES.items() if t in content or t.decode("latin-1") in symbols)
    return ", ".join((f"ELF64 for Linux ({why})", "static", *found))


@cache
def guest_kernel() -> elf.Executable:
    """The guest kernel that comes with Ringscope."""
    return elf.parse(KERNEL.read_bytes(), str(KERNEL), LOAD_ADDRESS, PACKED)


def _check(loads: list[elf.Load], entry: int, path: str) -> None:
    """Check what the kernel relies on. Raises InputError."""
    if not loads:
        raise InputError("empty: nothing in it is to be loaded", path)
    for load in loads:
        where = f"the segment at {load.linear:#x}"
        if not _FOR_SEGMENTS.start <= load.linear <= load.linear + load.in_memory <= _FOR_SEGMENTS.stop:
            raise InputError(
                f"{where} lies outside {_FOR_SEGMENTS.start:#x}-{_FOR_SEGMENTS.stop:#x}, where programs"
                " have room; link it without another address", path,
            )  # fmt: skip
        if load.flags & _PF_W and load.flags & _PF_X:
            raise InputError(
                f"{where} is both writable and executable, and the guest kernel makes no such page;"
                " link it without -N and --omagic", path,
            )  # fmt: skip
    for low, high in pairwise(loads):
        if -(-(low.linear + low.in_memory) // _PAGE) > high.linear // _PAGE:
            raise InputError(f"the segments at {low.linear:#x} and {high.linear:#x} share a page", path)
    if not any(x.flags & _PF_X and x.linear <= entry < x.linear + x.in_memory for x in loads):
        raise InputError(f"the entry {entry:#x} lies in none of its executable segments", path)


def _arguments(path: str, append: bytes) -> list[bytes]:
    """argv: the program's name, and the words of --append as a shell parts them. A name without a
    folder is run as a shell runs it, ./a.out: of /proc/self/exe libraries expect a path."""
    if len(append) > LONGEST_ARGUMENTS:
        raise InputError(f"--append: longer than {LONGEST_ARGUMENTS} bytes")
    if b"\0" in append:
        raise InputError("--append: there is a NUL in it")
    try:
        words = shlex.split(append.decode("utf-8", "surrogateescape"))
    except ValueError:
        raise InputError("--append: an open quotation mark") from None
    name = path if os.sep in path else f"./{path}"
    return [os.fsencode(name), *(word.encode("utf-8", "surrogateescape") for word in words)]


def _auxiliary(content: bytes, loads: Iterable[elf.Load], entry: int) -> dict[int, int | bytes]:
    """The auxiliary vector by type (AT_PHDR 3 to AT_MINSIGSTKSZ 51); bytes are replaced by their
    address."""
    (at,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    headers = next((x.linear + at - x.offset for x in loads if 0 <= at - x.offset < x.in_file), 0)
    return {
        3: headers, 4: size, 5: count, 6: _PAGE, 7: 0, 8: 0, 9: entry, 11: 0, 12: 0, 13: 0, 14: 0,
        15: b"x86_64\0", 16: _FEATURES, 17: 100, 23: 0, 25: _RANDOM, 51: 2048,
    }  # fmt: skip


def _first_stack(arguments: list[bytes], auxiliary: dict[int, int | bytes]) -> bytes:
    """argc, argv, environment and auxiliary vector, and above them the texts that they point to. Their
    end is that of the program's addresses."""
    texts = bytearray()
    places = []
    bytes_of = {kind: value for kind, value in auxiliary.items() if isinstance(value, bytes)}
    for text in (*(text + b"\0" for text in (*arguments, *_ENVIRONMENT)), *bytes_of.values()):
        places.append(len(texts))
        texts += text
    texts += bytes(-len(texts) % 16)
    base = USER.stop - len(texts)
    addresses = [base + place for place in places]
    argc, envc = len(arguments), len(_ENVIRONMENT)
    vector = {
        **auxiliary,
        **dict(zip(bytes_of, addresses[argc + envc :], strict=True)),
        31: addresses[0],
    }
    words = [argc, *addresses[:argc], 0, *addresses[argc : argc + envc], 0]
    for kind, value in vector.items():
        assert isinstance(value, int)
        words += [kind, value]
    words += [0, 0]
    if len(words) % 2:  # the stack begins at a multiple of 16
        words += [0]
    return struct.pack(f"<{len(words)}Q", *words) + texts


def _packed(
    content: bytes, loads: list[elf.Load], entry: int, stack: bytes, files: tuple[PackedFile, ...]
) -> bytes:
    """The image at ``PACKED``: header, tables of segments and files, and what these point to."""
    tables = _START.size + _SEGMENT.size * len(loads) + _FILE.size * len(files)
    data = bytearray(-tables % _PAGE)

    def place(content: bytes) -> int:
        """Add it to the data; its physical address."""
        at = PACKED + tables + len(data)
        data.extend(content)
        return at

    segments = bytearray()
    for load in loads:  # as whole pages, so that the kernel maps them where they lie
        start, end = load.linear // _PAGE * _PAGE, -(-(load.linear + load.in_memory) // _PAGE) * _PAGE
        pages = bytes(load.linear - start) + content[load.offset : load.offset + load.in_file]
        pages += bytes(-len(pages) % _PAGE)
        rights = sum(of for bit, of in _RIGHTS.items() if load.flags & bit)
        segments += _SEGMENT.pack(start, end, rights, place(pages), len(pages))
    stack_at = place(stack)
    listed = bytearray()
    for file in files:
        listed += _FILE.pack(place(file.name + b"\0"), place(file.data), len(file.data), file.mode)
    first = PACKED + _START.size
    header = _START.pack(
        PACKED + tables + len(data), entry, stack_at, len(stack),
        first, len(loads), first + len(segments), len(files),
    )  # fmt: skip
    return bytes(header + segments + listed + data)
