"""A file's old content stays until all of the new content is on the disk."""

from __future__ import annotations

import os
import resource
import secrets
from errno import EACCES, EBUSY, EPERM, EROFS, EXDEV
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from cores import atomic_file as files
from cores.atomic_file import Kind, replacing
from cores.errors import InputError


def test_it_takes_the_place(tmp_path: Path) -> None:
    """The file has the new content and the old permissions; a symbolic link still leads to it."""
    old, link = tmp_path / "old", tmp_path / "link"
    old.write_bytes(b"before")
    old.chmod(0o640)
    link.symlink_to(old.name)
    with replacing(link) as file:
        file.write(b"after")
        assert old.read_bytes() == b"before"
    assert old.read_bytes() == b"after"
    assert old.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "old"]


def test_no_room(tmp_path: Path) -> None:
    """On a full disk the old content remains, and no other file."""
    path, room = tmp_path / "file", resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_bytes(b"before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, room[1]))
    try:
        with pytest.raises(OSError, match="too large"), replacing(path) as file:
            file.write(bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_a_device_stays_a_device() -> None:
    """A device is written to, not replaced by a file."""
    with pytest.raises(OSError, match="No space left"), replacing("/dev/full") as file:
        file.write(b"anything")
    assert Path("/dev/full").is_char_device()


def test_a_long_name(tmp_path: Path) -> None:
    """The temporary file has a short name, whatever the length of the file's own."""
    path = tmp_path / ("n" * 255)
    for content in (b"before", b"after"):
        with replacing(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == [path.name]


def test_a_link_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A symbolic link with the temporary file's name is not followed, and stays."""
    monkeypatch.setattr(secrets, "token_hex", lambda _: "guessed")
    victim, link, path = tmp_path / "victim", tmp_path / ".guessed", tmp_path / "file"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    with pytest.raises(FileExistsError), replacing(path):
        pass
    assert victim.read_bytes() == b"precious"
    assert link.is_symlink()
    assert not path.exists()


@pytest.mark.parametrize("error", [EACCES, EROFS])
def test_a_closed_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """In a directory that is not writable, a writable file is written in place."""
    path = tmp_path / "file"
    path.write_bytes(b"before, and longer")

    def closed(name: str, mode: str) -> BinaryIO:  # root may write anywhere
        if "x" in mode:
            raise OSError(error, os.strerror(error))
        return cast(BinaryIO, open(name, mode))

    monkeypatch.setattr(files, "open", closed, raising=False)
    with replacing(path) as file:
        file.write(b"after")
    assert path.read_bytes() == b"after"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [EBUSY, EPERM, EXDEV])
def test_a_mount_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """A file that is a mount point is written in place."""
    path = tmp_path / "file"
    path.write_bytes(b"before, and longer")
    path.chmod(0o640)

    def busy(*_: str) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "replace", busy)
    with replacing(path) as file:
        file.write(b"after")
    assert path.read_bytes() == b"after"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_a_new_file_is_like_any_other(tmp_path: Path) -> None:
    """A new file has the permissions of the user's umask."""
    before = os.umask(0o022)
    try:
        with replacing(tmp_path / "file"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


CAST = Kind("a recording", lambda head: head.startswith(b"{"))


@pytest.mark.parametrize("content", [b"notes", b"\0" * 10 + b"x", b"{"])
def test_a_file_of_another_kind_stays(content: bytes, tmp_path: Path) -> None:
    """A file of another kind is refused; one of the same kind, an empty one, and any by --overwrite are
    replaced."""
    path = tmp_path / "file"
    path.write_bytes(content)
    if content != b"{":
        with pytest.raises(InputError) as caught, replacing(path, CAST) as file:
            file.write(b"{new")
        assert str(caught.value) == (
            f"{path}: there is a file of this name, which is not a recording: --overwrite replaces it"
        )
        assert path.read_bytes() == content
        with replacing(path, CAST, overwrite=True) as file:
            file.write(b"{newer")
    for before in (b"{old", b""):
        path.write_bytes(before)
        with replacing(path, CAST) as file:
            file.write(b"{newest")
        assert path.read_bytes() == b"{newest"
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_no_file(tmp_path: Path) -> None:
    """A directory, a pipe without a reader and an impossible name each give a sentence, without
    waiting."""
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path, "this is a directory"),
        (tmp_path / "pipe", "a pipe that nothing reads"),
        (Path("a\0b"), "there is a NUL in its name"),
    ):
        with pytest.raises(InputError) as caught, replacing(path, CAST):
            pass
        assert caught.value.reason == reason


def test_a_pipe_behind_a_link() -> None:
    """A pipe is written to through /dev/stdout and other links."""
    reading, writing = os.pipe()
    with open(reading, "rb") as file:
        with replacing(f"/proc/self/fd/{writing}", CAST) as other:
            other.write(b"through")
        os.close(writing)
        assert file.read() == b"through"
