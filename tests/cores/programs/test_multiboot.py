"""Kernels for Multiboot, disks and ROMs: recognized by content, and refused in one sentence each."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from test_elf import image, segment

from cores.errors import InputError
from cores.programs.loader import load_program
from cores.programs.program import KERNEL_RAM, Module, Program, StartOptions

MAGIC, MAGIC_2 = 0x1BADB002, 0xE85250D6
LOAD = 0x100000
MIB = 1 << 20
HIGH = 0xFFFF_FFFF_8000_0000


def header(flags: int = 0, *words: int, wrong: int = 0) -> bytes:
    return struct.pack(
        f"<{3 + len(words)}I", MAGIC, flags, -(MAGIC + flags) + wrong & 0xFFFFFFFF, *words
    )


def flat(*fields: int, flags: int = 0x10003, size: int = 4096) -> bytes:
    """A kernel with address fields; by default loaded whole at 1 MiB and entered behind its header."""
    fields = fields or (LOAD, LOAD, 0, 0, LOAD + 32)
    return header(flags, *fields).ljust(size, b"\x90")


def elf32(
    *loads: tuple[int, int, bytes, int], entry: int, machine: int = 3, kind: int = 2, flags: int = 0
) -> bytes:
    """An ELF32 file: (linear, physical, data, size in memory) of each segment; the first begins with
    a Multiboot header."""
    at = 52 + 32 * len(loads)
    headers, body = b"", b""
    for number, (linear, physical, data, size) in enumerate(loads):
        data = header(flags) + data if number == 0 else data
        size = max(size, len(data))
        headers += struct.pack("<8I", 1, at + len(body), linear, physical, len(data), size, 7, 4)
        body += data.ljust(-(-len(data) // 4) * 4, b"\0")
    head = struct.pack(
        "<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", kind, machine, 1, entry, 52, 0, 0, 52, 32,
        len(loads), 0, 0, 0,
    )  # fmt: skip
    return head + headers + body


def elf64(*loads: tuple[int, int, bytes, int], entry: int) -> bytes:
    """``elf32`` in 64 bits."""
    at = 64 + 56 * len(loads)
    headers, body = b"", b""
    for number, (linear, physical, data, size) in enumerate(loads):
        data = header() + data if number == 0 else data
        headers += struct.pack("<IIQQQQQQ", 1, 7, at + len(body), linear, physical, len(data), size, 4)
        body += data.ljust(-(-len(data) // 4) * 4, b"\0")
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, entry, 64, 0, 0, 64, 56, len(loads),
        0, 0, 0,
    )  # fmt: skip
    return head + headers + body


def high(
    linear: int = HIGH + LOAD, physical: int = LOAD, data: bytes = b"", size: int = 99,
    more: tuple[tuple[int, int, bytes, int], ...] = (), entry: int = HIGH + LOAD,
) -> bytes:  # fmt: skip
    """An ELF64 kernel in the upper half."""
    return elf64((linear, physical, data, size), *more, entry=entry)


def load(
    tmp_path: Path, content: bytes, name: str = "kernel", ram: int | None = None,
    options: StartOptions = StartOptions(),  # noqa: B008 - it is frozen
) -> Program:  # fmt: skip
    path = tmp_path / name
    path.write_bytes(content)
    return load_program(str(path), ram, options=options)


def test_flat_kernel(tmp_path: Path) -> None:
    """Address fields say what of the file is loaded where, and where bss ends."""
    kernel = load(tmp_path, bytes(64) + flat(LOAD + 16, LOAD, LOAD + 1000, LOAD + 9000, LOAD + 40))
    assert (kernel.format, kernel.entry, kernel.ram) == ("multiboot", LOAD + 40, KERNEL_RAM)
    (part,) = kernel.segments
    assert (part.gpa, len(part.data), part.size) == (LOAD, 1000, 9000)
    assert part.data[16:20] == struct.pack("<I", MAGIC)
    whole = load(tmp_path, flat())
    assert whole.segments[0].size == 4096


def test_elf32_kernel(tmp_path: Path) -> None:
    """ELF32 is loaded by physical addresses; the entry may be a linear or a physical one."""
    loads = (0x80100000, LOAD, b"\x90" * 20, 100), (0x80200000, 2 * LOAD, b"data", 0x5000)
    for entry in (0x8010000C, LOAD + 12):
        kernel = load(tmp_path, elf32(*loads, entry=entry))
        assert (kernel.format, kernel.entry) == ("multiboot", LOAD + 12)
        assert [(s.gpa, s.size) for s in kernel.segments] == [(LOAD, 100), (2 * LOAD, 0x5000)]


def test_elf64_kernel(tmp_path: Path) -> None:
    """An ELF64 file with a header is a Multiboot kernel; without one it starts in 64-bit mode."""
    plain = image(segment(LOAD, in_file=2, in_memory=64))
    assert load(tmp_path, plain).format == "elf"
    kernel = load(tmp_path, plain + bytes(2) + header())
    assert (kernel.format, kernel.entry, kernel.size) == ("multiboot", LOAD, 2)


@pytest.mark.parametrize("base", [HIGH, 0xFFFF_8000_0000_0000])
def test_elf64_in_the_upper_half(tmp_path: Path, base: int) -> None:
    """Linked in the upper half, it is loaded by physical addresses; bss and a second segment, too."""
    loads = (base + LOAD, LOAD, b"\x90" * 20, 100), (base + 2 * LOAD, 2 * LOAD, b"data", 0x5000)
    for entry in (base + LOAD + 12, LOAD + 12):
        kernel = load(tmp_path, elf64(*loads, entry=entry))
        assert (kernel.format, kernel.entry) == ("multiboot", LOAD + 12)
        assert [(s.gpa, s.size) for s in kernel.segments] == [(LOAD, 100), (2 * LOAD, 0x5000)]


R, RW, RX = 4, 6, 5


def linked(*loads: tuple[int, int, int, int], begin: int = LOAD) -> bytes:
    """What ld makes of a kernel at ``begin`` in the file's second page, with these segments: flags,
    offset, physical address and size."""
    headers = b"".join(
        struct.pack("<8I", 1, offset, at, at, size, size, flags, 0x1000)
        for flags, offset, at, size in loads
    )
    head = struct.pack(
        "<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, begin + 12, 52, 0, 0, 52, 32,
        len(loads), 0, 0, 0,
    )  # fmt: skip
    return (head + headers).ljust(0x1000, b"\0") + header() + b"\xf4" * 20


@pytest.mark.parametrize(
    "loads",
    [
        [(R, 0, 0xFF000, 0x74), (RX, 0x1000, LOAD, 32)],
        [(RX, 0, 0xFF000, 0x1020)],
    ],
    ids=["a segment of their own", "in the text's segment"],
)
def test_headers_a_page_below_the_kernel(
    tmp_path: Path, loads: list[tuple[int, int, int, int]]
) -> None:
    """`ld -Ttext=0x100000` has a page with the file's own headers loaded to the ROM: as other loaders
    do, it is left out."""
    kernel = load(tmp_path, linked(*loads))
    assert [(s.gpa, s.size) for s in kernel.segments] == [(LOAD, 32)]
    assert kernel.segments[0].data.startswith(header())


@pytest.mark.parametrize(
    "loads",
    [
        [(RW, 0, 0xFF000, 0x1020)],
        [(RX, 0, 0xFE000, 0x2020)],
        [(RX, 0x1000, 0xFF000, 0x1010), (RX, 0x1000, 2 * LOAD, 32)],
    ],
    ids=["data", "more than the headers' page", "other bytes of the file"],
)
def test_what_else_lies_in_the_rom(tmp_path: Path, loads: list[tuple[int, int, int, int]]) -> None:
    """Anything but headers there is refused: it would be lost."""
    with pytest.raises(InputError, match="where a PC has its screen and ROM"):
        load(tmp_path, linked(*loads).ljust(0x4000, b"\x90"))


def test_ram_below_64_kib(tmp_path: Path) -> None:
    """A kernel may lie from 0x1000 up; 0x8000 is usual for trampolines."""
    assert load(tmp_path, elf32((0x8000, 0x8000, b"\xf4", 1), entry=0x8000)).segments[0].gpa == 0x8000


def test_modules(tmp_path: Path) -> None:
    """``--module "FILE ARGS"``: the file, and the whole text as the module's string."""
    file = tmp_path / "my module"
    file.write_bytes(b"abc")
    plain = tmp_path / "m"
    plain.write_bytes(b"d")
    asked = (f'"{file}" x=1 y', str(plain))
    kernel = load(tmp_path, flat(), options=StartOptions(b"root=hd0", asked))
    assert kernel.append == b"root=hd0"
    assert kernel.modules == (Module(b"abc", asked[0].encode()), Module(b"d", asked[1].encode()))


def test_disk(tmp_path: Path) -> None:
    """``.img`` with 55 AA, or any file with ``--boot disk``: the boot sector at 0x7C00."""
    disk = bytes(510) + b"\x55\xaa" + bytes(512)
    for name, options in (("x.img", StartOptions()), ("x", StartOptions(boot="disk"))):
        program = load(tmp_path, disk, name, options=options)
        assert (program.format, program.entry, program.size) == ("disk", 0x7C00, 512)
    assert load(tmp_path, disk, "x.bin").format == "flat"


def test_rom(tmp_path: Path) -> None:
    """``--boot rom``: 64 or 128 KiB that end at 1 MiB."""
    for size in (64 << 10, 128 << 10):
        rom = load(tmp_path, bytes(size), options=StartOptions(boot="rom"))
        assert (rom.format, rom.segments[0].gpa + size) == ("rom", 1 << 20)


MB2 = struct.pack("<4I", MAGIC_2, 0, 16, -(MAGIC_2 + 16) & 0xFFFFFFFF)
REFUSED = {
    "wrong checksum": (header(3, wrong=1).ljust(99, b"\x90"), "at offset 0x0 has a wrong checksum"),
    "unknown flags": (flat(flags=0x10013), "demands something unknown: flags 0x10013"),
    "graphics": (
        header(0x10004, LOAD, LOAD, 0, 0, LOAD + 48, 0, 640, 480, 32).ljust(64, b"\x90"),
        "demands a graphics mode",
    ),
    "Multiboot 2": (MB2.ljust(99, b"\x90"), "a Multiboot 2 kernel: Ringscope starts"),
    "no fields": (header().ljust(99, b"\x90"), "no ELF file and has no address fields"),
    "header below its load": (flat(LOAD - 4, LOAD, 0, 0, LOAD), "do not fit the file"),
    "load before the file": (flat(LOAD + 64, LOAD, 0, 0, LOAD + 4), "do not fit the file"),
    "load past the file": (flat(LOAD, LOAD, LOAD + 9999, 0, LOAD), "do not fit the file"),
    "bss in the middle": (flat(LOAD, LOAD, 0, LOAD + 5, LOAD), "bss ends at 0x100005, below 0x101000"),
    "bss over RAM": (flat(LOAD, LOAD, 0, 0xFFFFFFFF, LOAD), "ends outside RAM (0x10000000 bytes"),
    "load too low": (flat(0x800, 0x800, 0, 0, 0x900), "the kernel at 0x800 lies below 0x1000"),
    "load in the hole": (flat(0x9F800, 0x9F800, 0, 0, 0x9F820), "a PC has its screen and ROM"),
    "entry": (flat(LOAD, LOAD, 0, 0, LOAD - 1), "the entry 0xfffff lies outside what is loaded"),
    "ELF32 for ARM": (elf32((LOAD, LOAD, b"", 9), entry=LOAD, machine=40), "32-bit ARM, not for x86"),
    "ELF32 for x86-64": (elf32((LOAD, LOAD, b"", 9), entry=LOAD, machine=62), "file for x86-64, not"),
    "ELF object": (elf32((LOAD, LOAD, b"", 9), entry=LOAD, kind=1), "an object file; link it first"),
    "ELF over RAM": (elf32((LOAD, LOAD, b"", 1 << 30), entry=LOAD), "ends outside RAM"),
    "ELF entry": (elf32((LOAD, LOAD, b"", 9), entry=5), "the entry 0x5 lies in none of its segments"),
    "ELF cut": (elf32((LOAD, LOAD, bytes(99), 99), entry=LOAD)[:-9], "lies beyond the end of the file"),
    "ELF64 physically high": (high(physical=HIGH + LOAD), "outside RAM"),
    "ELF64 wraps": (high(physical=(1 << 64) - 8), "outside RAM"),
    "ELF64 wraps when linked": (high((1 << 64) - 8, entry=8), "the entry 0x8 lies in none"),
    "ELF64 huge": (high(size=1 << 63), "ends outside RAM"),
    "ELF64 less room than file": (high(data=bytes(99), size=9), "larger in the file than in memory"),
    "ELF64 twice": (high(more=((HIGH, LOAD + 50, b"", 99),)), "overlap"),
    "ELF64 entry": (high(entry=HIGH + 2 * LOAD), "lies in none of its segments"),
    "ELF64 entry behind": (high(entry=LOAD + 99), "lies in none of its segments"),
    "ELF nothing": (elf32((LOAD, LOAD, b"", 9), entry=5)[:60] + header(), "program headers lie beyond"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_bad_kernels(tmp_path: Path, what: str) -> None:
    """Each is refused in one sentence that names the file."""
    content, reason = REFUSED[what]
    with pytest.raises(InputError) as caught:
        load(tmp_path, content)
    assert reason in caught.value.reason
    assert str(caught.value).startswith(f"{tmp_path / 'kernel'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (StartOptions(append=b"x" * 4096), "--append: longer than 4095 bytes"),
        (StartOptions(append=b"a\0b"), "--append: there is a NUL"),
        (StartOptions(modules=("nowhere",)), "nowhere: no such file"),
        (StartOptions(modules=("",)), "--module: no file is named"),
        (StartOptions(modules=('"x',)), "--module: an open quotation mark"),
        (StartOptions(modules=("x " + "y" * 4096,)), "--module: longer than 4095 bytes"),
        (StartOptions(modules=("/dev/null",) * 65), "--module: more than 64"),
    ],
    ids=str,
)
def test_bad_options(tmp_path: Path, options: StartOptions, reason: str) -> None:
    """Options that no kernel can be given."""
    with pytest.raises(InputError) as caught:
        load(tmp_path, flat(), options=options)
    assert reason in str(caught.value)


def test_modules_that_do_not_fit(tmp_path: Path) -> None:
    """A module needs RAM behind the kernel; one larger than RAM is not even read to its end."""
    file = tmp_path / "m"
    file.write_bytes(bytes(MIB))
    options = StartOptions(modules=(str(file),))
    with pytest.raises(
        InputError, match=r"--module: 0x100000 bytes do not fit into RAM behind the kernel"
    ):
        load(tmp_path, flat(), ram=2 * MIB, options=options)
    file.write_bytes(bytes(2 * MIB + 1))
    with pytest.raises(InputError, match="too big: the module has more than 0x200000 bytes"):
        load(tmp_path, flat(), ram=2 * MIB, options=options)


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        (bytes(512), StartOptions(boot="disk"), "first sector does not end in 55 AA"),
        (b"short", StartOptions(boot="disk"), "first sector does not end in 55 AA"),
        (b"", StartOptions(boot="disk"), "the disk image is empty"),
        (bytes(1000), StartOptions(boot="rom"), "a ROM has 64 or 128 KiB; this file has 1,000 bytes"),
        (b"\x90" * 99, StartOptions(append=b"x"), "--append is for kernels that start by Multiboot"),
        (b"\x90" * 99, StartOptions(modules=("x",)), "--module is for kernels that start by Multiboot"),
    ],
)
def test_bad_images(tmp_path: Path, content: bytes, options: StartOptions, reason: str) -> None:
    """Disks without a signature, ROMs of a wrong size, and options for another kind of program."""
    with pytest.raises(InputError) as caught:
        load(tmp_path, content, options=options)
    assert reason in caught.value.reason
