"""The peer interface: another PC emulator that boots the guest's disk, windowless, with a time
limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Protocol

from cores.pc.devices.vga import SIZE, Vga
from cores.pc.stop import Stop

POLL = 0.02
"""Seconds between two polls of a peer."""

FIRMWARE = 30.0
"""Seconds that a peer's firmware may take to start the guest (0.3 on an idle computer), or the peer to
answer. The guest's own time begins after it."""

SCREEN_SIZE = SIZE
UNREAD = "its screen could not be read"
"""The note that distinguishes an unknown screen from an empty one."""
_QUESTION_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest to boot. image: the bootable disk, in a folder where a peer may put its files. ram:
    bytes. input: text to type. seconds: the limit. network: with an
    NE2000, on a network that the peer makes up."""

    image: Path
    cylinders: int
    ram: int
    input: bytes
    seconds: float
    network: bool = False

    def file(self, name: str) -> Path:
        return self.image.with_name(name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run. exit_status: its low byte, None where the peer does not show it. screen: as
    ``Vga.text``, None where never written, or unknown (with the note ``UNREAD``). reason: the host's
    failure, in words. seconds: wall time, the firmware's part included."""

    stop: Stop
    exit_status: int | None = None
    console: bytes = b""
    screen: str | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


class Peer(Protocol):
    """One kind of peer."""

    name: str

    def find(self) -> str:
        """Its version, as "QEMU 7.2.22". Raises UnavailableError when it is not installed."""
        ...

    def run(self, guest: Guest) -> Outcome:
        """Boot the guest and wait until it ends, or until the time limit."""
        ...


def read(path: Path) -> bytes:
    """A file's present contents; b"" if it does not exist yet."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def read_screen(path: Path) -> tuple[str | None, tuple[str, ...]]:
    """(text, notes) of the screen, from a file with the 4000 bytes at 0xB8000; the note is ``UNREAD``
    if there is no such file. The text is None if all cells are blank: the loader has cleared the
    screen, and the guest has not written to it."""
    cells = read(path)
    if len(cells) != SCREEN_SIZE:
        return None, (UNREAD,)
    vga = Vga()
    if cells == vga.cells:
        return None, ()
    vga.mmio_write(0, cells)
    return vga.text(), ()


def runs(command: Sequence[str]) -> bool:
    """Does a command end with success?"""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def ask(command: Sequence[str], input: bytes = b"") -> str:
    """A program's output on both streams; "" if it cannot be started or does not end."""
    try:
        done = subprocess.run(
            command, input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=_QUESTION_LIMIT, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


@cache
def _dying_with_us() -> tuple[str, ...]:
    """The command prefix with which the kernel kills a process when its parent ends (setpriv(1));
    () where there is none."""
    command = ("setpriv", "--pdeathsig", "KILL")
    return command if runs([*command, "true"]) else ()


@contextlib.contextmanager
def started(
    command: Sequence[str],
    *,
    stdout: IO[bytes] | int,
    stderr: IO[bytes],
    env: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, where the terminal's Ctrl-C does not reach it. On exit it is
    killed, with all processes that it has started; where this host's setpriv(1) can, also when this
    process is killed itself."""
    process = subprocess.Popen(
        [*_dying_with_us(), *command], stdin=subprocess.PIPE, stdout=stdout, stderr=stderr,
        start_new_session=True, env=env,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # the process has ended with unsent bytes
                    pipe.close()
