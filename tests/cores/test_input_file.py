"""Input files: pipes are read to their end, other special files refused, and nothing waits for ever."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cores import input_file
from cores.errors import InputError

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files")


def refusal(path: str) -> str:
    with pytest.raises(InputError) as caught:
        input_file.read(path, 1000)
    return caught.value.reason


def test_a_file_and_its_limit(tmp_path: Path) -> None:
    """A file is read whole, or one byte more than the limit."""
    (tmp_path / "a").write_bytes(bytes(2000))
    assert len(input_file.read(str(tmp_path / "a"), 2000)) == 2000
    assert len(input_file.read(str(tmp_path / "a"), 1000)) == 1001


@posix
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_pipe(late: bool, tmp_path: Path) -> None:
    """A pipe is read to its end, whichever end opens first, and however slowly it is written."""
    os.mkfifo(tmp_path / "pipe")
    writes = (
        "import sys; f = open(sys.argv[1], 'wb', 0); f.write(b'x'); sys.stdin.read(1); f.write(b'y')"
    )
    command = [sys.executable, "-c", writes, str(tmp_path / "pipe")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        if late:
            threading.Timer(0.2, writer.stdin.close).start()
        else:
            writer.stdin.close()
        assert input_file.read(str(tmp_path / "pipe"), 1000) == b"xy"


@posix
def test_pipes_without_a_writer(tmp_path: Path) -> None:
    """A pipe without a writer is not waited for; one closed unwritten is empty."""
    os.mkfifo(tmp_path / "pipe")
    assert refusal(str(tmp_path / "pipe")) == "a pipe that nothing writes to"
    assert not input_file.begins_with(str(tmp_path / "pipe"), b"x")
    reading, writing = os.pipe()
    os.close(writing)
    try:
        assert input_file.read(f"/proc/self/fd/{reading}", 1000) == b""
    finally:
        os.close(reading)


@posix
def test_what_is_no_file(tmp_path: Path) -> None:
    """Directories, devices, sockets and dangling links each give a sentence."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"x")
    assert refusal(str(tmp_path)) == "this is a directory, not a program"
    assert refusal("/dev/null") == refusal("/dev/zero") == "this is a device, not a program"
    assert refusal(str(tmp_path / "socket")) == "cannot be read: No such device or address"
    assert refusal(str(tmp_path / "link")) == refusal(str(tmp_path / "none")) == "no such file"
    assert refusal(str(tmp_path / "loop")) == "cannot be read: Too many levels of symbolic links"
    assert refusal(str(tmp_path / "file" / "x")) == "cannot be read: Not a directory"
    assert refusal("x" * 5000) == "cannot be read: File name too long"
    assert refusal("a\0b") == "no such file: there is a NUL in its name"


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no /proc here")
def test_files_that_cannot_be_read() -> None:
    """Files of /proc that cannot be read are refused."""
    assert refusal("/proc/self/mem") == "cannot be read: Input/output error"
