"""Static Linux programs: what is recognised, what the guest kernel is given, and what is refused."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from cores.errors import InputError
from cores.pc.cpuid import cpuid
from cores.programs import linux_program
from cores.programs.loader import load_program
from cores.programs.program import StartOptions
from tests import linux_lab

ENTRY = b"\x0f\x0b"
"""UD2: none of these programs is run."""
needs_posix = pytest.mark.skipif(os.name != "posix", reason="there are no such files here")


def test_recognised_by_its_note(tmp_path: Path) -> None:
    """A note that names Linux, or --linux, starts it on the guest kernel, with 256 MiB."""
    program = load_program(linux_lab.program(tmp_path, ENTRY))
    assert (program.format, program.ram) == ("linux", 256 << 20)
    path = linux_lab.program(tmp_path, ENTRY, note=b"")
    assert load_program(path).format == "elf"
    asked = load_program(path, options=StartOptions(linux=True))
    assert (asked.format, asked.recognized) == ("linux", "ELF64 for Linux (--linux), static")
    assert program.recognized == "ELF64 for Linux (its notes), static"


def test_the_first_stack(tmp_path: Path) -> None:
    """argc, argv, the environment and the auxiliary vector stand as the ABI has them."""
    path = linux_lab.program(tmp_path, ENTRY)
    program = load_program(path, options=StartOptions(append=b"one 'two three'"))
    packed = program.segments[-1].data
    _, entry, at, size, *_ = struct.unpack_from("<8Q", packed)
    stack = packed[at - linux_program.PACKED :][:size]
    base = linux_program.USER.stop - size

    def text(address: int) -> bytes:
        return stack[address - base :].split(b"\0")[0]

    words = struct.unpack(f"<{size // 8}Q", stack)
    assert (base % 16, words[0], words[4], entry) == (0, 3, 0, linux_lab.TEXT)
    assert [text(word) for word in words[1:4]] == [os.fsencode(path), b"one", b"two three"]
    begin = words.index(0, 5) + 1
    auxiliary = dict(zip(words[begin:-1:2], words[begin + 1 :: 2], strict=False))
    assert (auxiliary[6], auxiliary[9], auxiliary[5]) == (4096, linux_lab.TEXT, 4)
    assert (text(auxiliary[31]), text(auxiliary[15])) == (os.fsencode(path), b"x86_64")
    assert auxiliary[16] == cpuid(1)[3]


def test_a_name_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of the current directory has the name that a shell would run it by."""
    path = Path(linux_lab.program(tmp_path, ENTRY))
    monkeypatch.chdir(path.parent)
    named = load_program(path.name).segments[-1].data
    assert b"\0./" + os.fsencode(path.name) + b"\0" in named


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"text_rights": 7}, "both writable and executable"),
        ({"text": 0x1000}, "the segment at 0x1000 lies outside 0x200000-"),
        ({"text": 0x402FF8}, "the segments at 0x402ff8 and 0x403000 share a page"),
        ({"text_rights": 4}, "the entry 0x401000 lies in none of its executable segments"),
    ],
)
def test_unsound_segments(options: dict[str, int], reason: str, tmp_path: Path) -> None:
    """Segments on which the guest kernel cannot rely are refused by name."""
    source = ENTRY + bytes(16) if "text" in options else ENTRY
    (tmp_path / "program").write_bytes(linux_lab.image(source, **options))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=reason):
        load_program(str(tmp_path / "program"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((18, b"\x03\0"), "a 32-bit program \\(i386\\): compile it for x86-64"),
        ((16, b"\x03\0"), "not a static executable: a shared object"),
        ((16, b"\x01\0"), "an object file; link it first"),
        ((18, b"\xb7\0"), "64-bit ARM"),
        ((7, b"\x09"), "a program for FreeBSD, not for Linux"),
    ],
)
def test_no_static_linux_program(change: tuple[int, bytes], reason: str, tmp_path: Path) -> None:
    """Programs of other kinds are refused in a sentence, with --linux too."""
    image = bytearray(linux_lab.image(ENTRY, note=b""))
    image[change[0] : change[0] + len(change[1])] = change[1]
    (tmp_path / "program").write_bytes(image)
    with pytest.raises(InputError, match=reason):
        load_program(str(tmp_path / "program"), options=StartOptions(linux=True))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (StartOptions(append=b"'"), "--append: an open quotation mark"),
        (StartOptions(append=b"x" * 4096), "--append: longer than"),
        (StartOptions(append=b"\0"), "--append: there is a NUL"),
        (StartOptions(files="absent"), "absent: --files: no such directory"),
        (StartOptions(modules=("x",)), "--module is for kernels"),
    ],
)
def test_bad_options(options: StartOptions, reason: str, tmp_path: Path) -> None:
    """Options that cannot be followed are refused in a sentence."""
    with pytest.raises(InputError, match=reason):
        load_program(linux_lab.program(tmp_path, ENTRY), options=options)


def test_too_little_ram(tmp_path: Path) -> None:
    """A program that does not fit is told how much RAM it needs."""
    with pytest.raises(InputError, match="--ram makes it larger"):
        load_program(linux_lab.program(tmp_path, ENTRY), 2 << 20)


@pytest.mark.parametrize("option", [StartOptions(linux=True), StartOptions(files=".")])
def test_options_for_linux_alone(option: StartOptions, tmp_path: Path) -> None:
    """--linux and --files are refused where the program is none for Linux."""
    (tmp_path / "flat").write_bytes(b"\xf4")
    with pytest.raises(InputError, match="is for static Linux programs"):
        load_program(str(tmp_path / "flat"), options=option)


@needs_posix
def test_files_of_a_folder(tmp_path: Path) -> None:
    """Files and folders are packed by name; a link inside the folder is the file that it leads to."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("sub/file")
    packed = linux_program.files_of(str(tmp_path), 1000)
    assert [(file.name, file.data) for file in packed] == [
        (b"link", b"content"), (b"sub", b""), (b"sub/file", b"content"),
    ]  # fmt: skip


def _outside(folder: Path) -> None:
    (folder.parent / "secret").write_text("secret")
    (folder / "out").symlink_to("../secret")


def _absolute(folder: Path) -> None:
    (folder / "out").symlink_to("/dev/null")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def _loop(folder: Path) -> None:
    (folder / "loop").symlink_to(".")


def _dangling(folder: Path) -> None:
    (folder / "dangling").symlink_to("nowhere")


@needs_posix
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_outside, "leads out of the folder"), (_absolute, "leads out of the folder"),
        (_pipe, "device, pipe or socket"), (_loop, "a symbolic link to a folder"),
        (_dangling, "cannot be read"),
    ],
)  # fmt: skip
def test_nothing_leads_out_of_the_folder(make: object, reason: str, tmp_path: Path) -> None:
    """What could reach another part of the host is refused, and the file is named."""
    folder = tmp_path / "files"
    folder.mkdir()
    make(folder)  # type: ignore[operator]
    with pytest.raises(InputError, match=reason):
        linux_program.files_of(str(folder), 1000)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    """More than fits into RAM is refused."""
    (tmp_path / "big").write_bytes(bytes(2000))
    with pytest.raises(InputError, match="more than 0x3e8 bytes"):
        linux_program.files_of(str(tmp_path), 1000)
