"""A guest program, ready to be loaded into RAM (cores/programs/loader.py makes one from a file)."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    symbols: name -> address. lines: address -> 1-based source line. source: its lines, or ().
    sha256: of the input file's bytes. ram: bytes of RAM of its machine, unless the options of the run
    say otherwise. append, modules: see ``StartOptions``; a Solo5 unikernel's
    module is its manifest.
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

    def source_of(self, address: int) -> str | None:
        """The "file:line" that an instruction was made from, None where that is not known."""
        line = self.lines.get(address)
        return None if line is None else f"{self.path}:{line}"

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
