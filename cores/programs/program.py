"""A guest program, ready to be loaded into RAM (cores/programs/loader.py makes one from a file)."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

_sorted: list[tuple[dict[int, int], list[int]]] = []
LAST = "\U0010ffff"
"""Sorts behind any name."""
LOAD_ADDRESS = 0x100000
"""Load address of flat images and assembly, and the lowest address of an ELF segment (contract.md)."""
M68K_LOAD_ADDRESS = 0x1000
M68K_DEVICES = 0xFF0000
"""The upper limit of the 68000 machine's RAM."""
DEFAULT_RAM = 16 << 20
KERNEL_RAM = 256 << 20
"""RAM of a machine that starts a kernel by Multiboot or from a disk, unless the user says otherwise."""
LARGEST_SOURCE = 16 << 20
"""Bytes of assembly source; more is refused."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Contents of one range of guest RAM. data is shorter than ``size`` by the zeroed rest (.bss)."""

    gpa: int
    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class StartOptions:
    """Options of starting a program. append: its command line. modules: "FILE ARGS" of each Multiboot
    module. boot: "disk" or "rom" where the user has said what kind of image it is, else "". linux: the
    user has said that it is a program for Linux. files: the folder of files that such a program may
    read, "" for none."""

    append: bytes = b""
    modules: tuple[str, ...] = ()
    boot: str = ""
    linux: bool = False
    files: str = ""


PLAIN = StartOptions()


@dataclass(frozen=True, slots=True)
class Module:
    """A Multiboot module: a file that is loaded beside the kernel, and its string."""

    data: bytes
    text: bytes


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run, for `compare`, `trace` and the interface.

    path: as the user named it ("-" for standard input). format: "asm" | "elf" | "flat" | "multiboot" |
    "linux" | "solo5" | "disk" | "rom" | "m68k".
    entry: guest linear address. start, end: the bytes it occupies, end exclusive (.bss included).
    symbols: name -> address. lines: address -> 1-based source line; 0: from here on, code is of none.
    source: its lines, or (). image: the file, where it has debug information, from which ``lines`` and
    ``source`` are made when they are asked for (cores/programs/sources.py); folder: where it is; files:
    the number of the line that has a file's name, before the file's own, and that name; note: what is
    missing, in words.
    sha256: of the input file's bytes. ram: bytes of RAM of its machine, unless the options of the run
    say otherwise. append, modules: see ``StartOptions``; a Solo5 unikernel's
    module is its manifest. recognized: what kind of program it is taken for, and why, in words.
    """

    path: str
    format: str
    entry: int
    segments: tuple[Segment, ...]
    sha256: str
    symbols: dict[str, int] = field(default_factory=dict)
    lines: dict[int, int] = field(default_factory=dict)
    source: tuple[str, ...] = ()
    ram: int = DEFAULT_RAM
    append: bytes = b""
    modules: tuple[Module, ...] = ()
    image: bytes = b""
    folder: str = ""
    files: tuple[tuple[int, str], ...] = ()
    note: str = ""
    recognized: str = ""

    def source_of(self, address: int) -> str | None:
        """The "file:line" that an instruction was made from, None where that is not known."""
        if not self.files:
            line = self.lines.get(address)
            return None if line is None else f"{self.path}:{line}"
        number = self.line_of(address)
        if not number:
            return None
        first, name = self.files[bisect_right(self.files, (number, LAST)) - 1]
        return f"{name}:{number - first}"

    def line_of(self, address: int) -> int:
        """The number of the line in ``source`` that the code at an address was made from, 0 for none.
        Compiled code has several instructions a line: the address may be any in it."""
        starts = self.starts
        at = bisect_right(starts, address) - 1
        return self.lines[starts[at]] if at >= 0 and (self.files or starts[at] == address) else 0

    @property
    def starts(self) -> list[int]:
        """The addresses in ``lines``, in ascending order; sorted once."""
        for lines, starts in _sorted:
            if lines is self.lines:
                return starts
        starts = sorted(self.lines)
        _sorted[:] = [(self.lines, starts), *_sorted[:3]]
        return starts

    @property
    def start(self) -> int:
        return min(s.gpa for s in self.segments)

    @property
    def end(self) -> int:
        return max(s.gpa + s.size for s in self.segments)

    @property
    def size(self) -> int:
        """Bytes of image, .bss not included."""
        return sum(len(s.data) for s in self.segments)
