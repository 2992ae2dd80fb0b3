"""A guest program, ready to be put into RAM."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes for one stretch of guest RAM. data is shorter than ``size`` by the zeroed rest (.bss)."""

    gpa: int
    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Program:
    """What `compare`, `trace` and the interface run.

    path: as the user named it ("-" for standard input). format: "asm" | "elf" | "flat" | "m68k".
    entry: guest linear address. start, end: the bytes it occupies, end exclusive (.bss included).
    symbols: name -> address. lines: address -> 1-based source line. source: its lines, or ().
    sha256: of the input file's bytes.
    """

    path: str
    format: str
    entry: int
    segments: tuple[Segment, ...]
    sha256: str
    symbols: dict[str, int] = field(default_factory=dict)
    lines: dict[int, int] = field(default_factory=dict)
    source: tuple[str, ...] = ()

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
