"""ELF executables: segments, refusals, and hostile files."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cores.errors import InputError
from cores.programs.elf import parse

FIRST, RAM = 0x100000, 16 << 20
CODE = b"\x90\xf4"


def header(
    *, kind: int = 2, machine: int = 62, entry: int = FIRST, segments: int = 1,
    ph_at: int = 64, ph_size: int = 56, cls: int = 2, order: int = 1,
) -> bytes:  # fmt: skip
    ident = b"\x7fELF" + bytes([cls, order, 1]) + bytes(9)
    return ident + struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, entry, ph_at, 0, 0, 64, ph_size, segments, 64, 0, 0
    )


def segment(
    gpa: int = FIRST, offset: int = 0x1000, in_file: int = 2, in_memory: int = 2, kind: int = 1
) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, 7, offset, gpa, gpa, in_file, in_memory, 0x1000)


def image(*segments: bytes, **fields: int) -> bytes:
    parts = segments or (segment(),)
    return (header(segments=len(parts), **fields) + b"".join(parts)).ljust(0x1000, b"\0") + CODE


def test_segments_by_physical_address() -> None:
    """PT_LOAD segments are loaded at their physical addresses, .bss included, in order."""
    found = parse(image(segment(0x200000, in_memory=0x500), segment()), "x", FIRST, RAM)
    assert [(s.gpa, s.data, s.size) for s in found.segments] == [
        (FIRST, CODE, 2),
        (0x200000, CODE, 0x500),
    ]
    assert found.entry == FIRST


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x7fELF", "truncated: shorter than an ELF header"),
        (image(cls=1), "not x86-64: a 32-bit ELF file"),
        (image(order=3), "damaged: neither a 32- nor a 64-bit ELF file"),
        (image(cls=0), "damaged: neither a 32- nor a 64-bit ELF file"),
        (image(machine=183), "not x86-64: a 64-bit ELF file for 64-bit ARM"),
        (image(kind=1), "not a static executable: an object file"),
        (image(kind=3), "not a static executable: a shared object"),
        (image(segment(), segment(kind=3), kind=3), "not a static executable: position-independent"),
        (image(kind=77), "not a static executable: ELF type 77"),
        (image(ph_size=32), "damaged: program headers of 32 bytes"),
        (image(ph_at=1 << 62), "truncated: the program headers"),
        (image(segment(), segment(kind=3)), "not static: dynamically linked"),
        (image(segment(), segment(kind=2)), "not static: dynamically linked"),
        (image(segment(in_file=3)), "damaged: the segment at 0x100000 is larger in the file"),
        (image(segment(in_file=5, in_memory=5)), "truncated: the segment at 0x100000"),
        (image(segment(offset=1 << 63)), "truncated: the segment at 0x100000"),
        (image(segment(0xFF000)), "the segment at 0xff000 lies below 0x100000"),
        (image(segment(in_memory=RAM)), "the segment at 0x100000 ends outside RAM"),
        (image(segment((1 << 64) - 1)), "the segment at 0xffffffffffffffff ends outside RAM"),
        (image(segment(), segment(FIRST + 1)), "the segments at 0x100000 and 0x100001 overlap"),
        (image(segment(in_file=0, in_memory=0)), "empty: nothing in it is to be loaded"),
        (image(entry=0), "the entry 0x0 lies in none of its segments"),
    ],
)
def test_refusals(content: bytes, reason: str) -> None:
    """Each kind of file that cannot run has a sentence of its own."""
    with pytest.raises(InputError) as caught:
        parse(content, "x", FIRST, RAM)
    assert str(caught.value).startswith(f"x: {reason}")


def test_many_segments_of_the_same_bytes() -> None:
    """65,534 headers for the same MiB are refused before anything is copied (once 5.99 GB and a
    minute): only the file is in memory."""
    count = 0xFFFE
    headers = segment(offset=0x400000, in_file=1 << 20, in_memory=1 << 20) * count
    content = (header(segments=count) + headers).ljust(0x500000, b"\0")
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="the segments at 0x100000 and 0x100000 overlap"):
            parse(content, "x", FIRST, RAM)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 64 << 20


def test_many_notes_of_the_same_bytes() -> None:
    """As many headers for the same notes take bounded time."""
    count = 0xFFFE
    headers = segment(kind=4, offset=0x400000, in_file=1 << 20) * (count - 1) + segment(offset=0x400000)
    content = (header(segments=count) + headers).ljust(0x500000, b"\0")
    assert parse(content, "x", FIRST, RAM).entry == FIRST


@given(st.binary(max_size=200))
def test_random_headers(tail: bytes) -> None:
    """Random bytes behind the magic number give a program or an InputError."""
    _only_input_errors(b"\x7fELF\x02\x01\x01" + tail)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_executables(data: st.DataObject) -> None:
    """A good executable with fields overwritten gives a program or an InputError."""
    content = bytearray(image(segment(), segment(0x300000)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, 64 + 2 * 56 - 8))
        width = data.draw(st.sampled_from([1, 2, 4, 8]))
        content[at : at + width] = data.draw(st.binary(min_size=width, max_size=width))
    _only_input_errors(bytes(content))


def _only_input_errors(content: bytes) -> None:
    try:
        found = parse(content, "x", FIRST, RAM)
    except InputError:
        return
    assert all(s.gpa >= FIRST and s.gpa + s.size <= RAM for s in found.segments)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler here")
def test_a_linked_program(tmp_path: Path) -> None:
    """A program of gcc and ld is loaded with its entry, its .bss and its symbols.

    -Ttext lays the file's headers below the text; nobody needs them in the guest."""
    (tmp_path / "p.c").write_text(
        "static char zeros[9000];\nint counter = 7;\n"
        "void _start(void) { zeros[1] = counter; for (;;); }\n"
    )
    target = tmp_path / "p"
    subprocess.run(
        ["gcc", "-O0", "-ffreestanding", "-nostdlib", "-static", "-no-pie",
         "-Wl,-Ttext=0x100000,--build-id=none", "-o", str(target), str(tmp_path / "p.c")],
        check=True,
    )  # fmt: skip
    found = parse(target.read_bytes(), "p", FIRST, RAM)
    assert found.entry == found.symbols["_start"] == FIRST
    assert {"zeros", "counter"} <= found.symbols.keys()
    assert any(s.size >= len(s.data) + 9000 for s in found.segments)
