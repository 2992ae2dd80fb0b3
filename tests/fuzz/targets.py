"""Fuzz targets: functions that read untrusted bytes, and the only errors that they may raise.

Each target takes any bytes at all. ``coverage.py`` lets atheris or Hypothesis find such that raise
anything else; ``seeds`` are good inputs to begin from.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cores.errors import InputError, RingscopeError
from cores.pc.physical_memory import PhysicalMemory
from cores.pc.platform import DEFAULT_RAM, LOAD_ADDRESS
from cores.pc.ram import Ram
from cores.programs import elf
from cores.programs.assembler import expressions, operands
from cores.programs.assembler import parser as assembly
from cores.programs.shipped import ASSETS
from cores.x86.faults import GuestFault
from cores.x86.isa.decoder import Truncated, decode, text
from cores.x86.mmu.paging import Mmu, walk
from cores.x86.registers import Vector
from cores.x86.virtual_cpu import VirtualCpu
from lessons.format.parser import parse_text

ROOT = Path(__file__).parents[2]
TABLES = 0x4000


def elf_loader(data: bytes) -> None:
    """Load an executable: InputError, or segments inside RAM."""
    with contextlib.suppress(InputError):
        found = elf.parse(data, "fuzz.elf", LOAD_ADDRESS, DEFAULT_RAM)
        for segment in found.segments:
            assert segment.gpa >= LOAD_ADDRESS
            assert len(segment.data) <= segment.size
            assert segment.gpa + segment.size <= DEFAULT_RAM


def assembler_front(data: bytes) -> None:
    """Parse a source, up to the input of Keystone."""
    source = data.decode("utf-8", "replace")
    with contextlib.suppress(InputError):
        assembly.parse(source, "fuzz.s", str.isalpha, LOAD_ADDRESS)
    for line in source.splitlines():
        with contextlib.suppress(expressions.Unclear):
            operands.parse(line, expressions.Name)


def lesson_parser(data: bytes) -> None:
    """Parse a lesson's text."""
    with contextlib.suppress(RingscopeError):
        parse_text(data.decode("utf-8", "replace"), "fuzz.md")


def paging_walk(data: bytes) -> None:
    """Walk page tables: an address of at most 52 bits, or #PF or #GP; the same twice, and the same from
    the TLB."""
    if len(data) < 40:
        return
    cr0, cr3, cr4, gva, kind = struct.unpack_from("<5Q", data)
    memory = PhysicalMemory(_ram())
    tables = data[40 : 40 + TABLES]
    memory.view[: len(tables)] = tables
    cpu = VirtualCpu(cr0=cr0 | 1 << 31, cr3=cr3 & 0x3FFF, cr4=cr4, efer=0x500 | kind & 1 << 11)
    how = {"write": bool(kind & 1), "execute": bool(kind & 2), "user": bool(kind & 4)}
    answers: list[int | tuple[int, int | None, int | None]] = []
    mmu = Mmu(memory, cpu)
    for ask in (
        lambda: walk(memory, cpu, gva, **how).gpa,
        lambda: mmu.translate(gva, **how),
        lambda: mmu.translate(gva, **how),
    ):
        try:
            gpa = ask()
            assert 0 <= gpa < 1 << 52
            assert gpa % 4096 == gva % 4096
            answers.append(gpa)
        except GuestFault as fault:
            answers.append((fault.vector, fault.error, fault.address))
    memory.view[: len(tables)] = bytes(len(tables))
    assert isinstance(answers[0], int) or answers[0][0] in (Vector.GP, Vector.PF)
    assert answers[0] == answers[1] == answers[2], answers


def decoder(data: bytes) -> None:
    """Decode fifteen bytes: an instruction of at most that length with a text; or #UD, #GP, too few
    bytes."""
    try:
        insn = decode(data[:15])
    except (GuestFault, Truncated):
        return
    assert insn.code == data[: insn.length]
    assert text(insn, LOAD_ADDRESS)


def _ram() -> Ram:
    if not _kept:
        _kept.append(Ram(2 << 20))
    return _kept[0]


_kept: list[Ram] = []


@dataclass(frozen=True)
class Target:
    """run: raises for a bug, and for nothing else. seeds: the folder or function of good inputs."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def _files(folder: Path, pattern: str) -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for path in sorted(folder.glob(pattern))]


def _walks() -> list[bytes]:
    tables = b"".join(
        struct.pack("<512Q", *[(level + 1 << 12 | 0x67) if level < 3 else 0x67] * 512)
        for level in range(4)
    )
    return [
        struct.pack("<5Q", 1 << 16, 0, 1 << 20, 0x7FFF_1234_5678, kind) + tables for kind in range(8)
    ]


TARGETS = {
    "elf": Target(elf_loader, _files(ASSETS / "guests", "*.elf")),
    "assembly": Target(assembler_front, _files(ASSETS / "guests", "*.s")),
    "lesson": Target(lesson_parser, _files(ROOT / "lessons" / "course", "*.md")),
    "paging": Target(paging_walk, _walks),
    "decode": Target(
        decoder, lambda: [bytes([0x66, 0x0F, 0x3A, 0x0F, 0xC1, 3]), b"\x48\xb8" + bytes(8)]
    ),
}
