"""The interface in a real terminal."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.main import again
from tests.sampling import all_but

pexpect = pytest.importorskip(
    "pexpect", reason="pexpect is not installed: no pseudo-terminal to test in"
)
pyte = pytest.importorskip("pyte", reason="pyte is not installed: nothing reads the terminal's screen")

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds until something that must come has failed to come."""


class Terminal:
    """Ringscope in a pseudo-terminal of 100x30, and the screen that it draws."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.screen = pyte.Screen(100, 30)
        self.stream = pyte.ByteStream(self.screen)
        self.sent = b""
        self.process = pexpect.spawn(
            sys.executable,
            again(*arguments)[1:],
            cwd=str(ROOT),
            env=os.environ
            | {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
            | {"RINGSCOPE_CONFIG": os.devnull, "RINGSCOPE_DATA": os.devnull}
            | environment,
            dimensions=(30, 100),
        )

    def read(self) -> None:
        """Read the output so far."""
        try:
            sent = self.process.read_nonblocking(1 << 16, timeout=0.05)
            self.sent += sent
            self.stream.feed(sent)
        except pexpect.TIMEOUT:
            pass
        except pexpect.EOF:
            return

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"never came: {what}\n{self.text()}"
            self.read()

    def see(self, words: str) -> None:
        self.until(lambda: words in self.text(), repr(words))

    @property
    def restored(self) -> bool:
        """Has the terminal its former screen and mouse mode?"""
        pairs = ((b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?1000h", b"\x1b[?1000l"))
        return all(self.sent.rfind(off) > self.sent.rfind(on) for on, off in pairs)

    def text(self) -> str:
        return "\n".join(self.screen.display)

    def press(self, keys: str) -> None:
        self.process.send(keys)

    def end(self) -> int:
        """Wait for the end; gives the exit code."""
        self.until(lambda: not self.process.isalive(), "the end of the program")
        assert self.process.exitstatus is not None, self.process.signalstatus
        return int(self.process.exitstatus)


@contextmanager
def terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    opened = Terminal(list(arguments), environment)
    try:
        yield opened
    finally:
        opened.process.close(force=True)


def children(pid: int) -> set[int]:
    """The processes that this process has started, and theirs (Linux)."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | children(child)
    return found


def gone(pids: set[int]) -> bool:
    """Does none of them run any more?"""
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            return False
    return True


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def stty(t: Terminal) -> list[object]:
    """The terminal's modes, without its control characters."""
    return termios.tcgetattr(t.process.child_fd)[:6]


TAKEN = b"\x1b[?1049h"
SPIN = "start: inc rax\n jmp start\n"


def test_start_step_and_quit() -> None:
    """The machines appear, n steps them all, q ends with code 0 and restores the terminal."""
    with terminal("assets/guests/hello.s") as t:
        t.see("TRAP+EMULATE")
        t.see("0 instructions")
        t.press("n")
        t.see("done just now")
        t.press("e")
        t.see("console 'H'")
        t.press("w")
        t.see("Guest OS")
        t.press("q")
        t.see("Leave?")
        t.press("q")
        assert t.end() == 0


def test_the_home_screen() -> None:
    """Without a program the guests and this host's abilities are shown; Enter runs a guest, h
    returns."""
    with terminal() as t:
        t.see("hello ")
        t.see(" runs ")
        t.press("\x1b[C\r")
        t.see("hello.s")
        t.see("comes next")
        t.press("h")
        t.see("This computer")
        t.press("q")
        assert t.end() == 0


@pytest.mark.parametrize(
    "how", all_but(("q", "\x03", "SIGTERM", "SIGHUP", "SIGKILL"), "\x03", "SIGTERM", "SIGHUP")
)
def test_nothing_is_left_behind_while_a_guest_spins(how: str, tmp_path: Path) -> None:
    """q, Ctrl-C and a kill all end the vCPU processes of a spinning guest."""
    guest = tmp_path / "spin.s"
    guest.write_text(SPIN)
    with terminal(str(guest)) as t:
        t.see("0 instructions")
        t.press("f")
        t.see("running")
        started = children(t.process.pid)
        if how.startswith("SIG"):
            os.kill(t.process.pid, getattr(signal, how))
            t.until(lambda: not t.process.isalive(), "the end")
            if how != "SIGKILL":
                assert t.process.exitstatus == 128 + getattr(signal, how)
                t.until(lambda: t.restored, "the terminal's own screen")
        else:
            t.press(how)
            if how == "q":
                t.see("Leave?")
                t.press("q")
            assert t.end() == (0 if how == "q" else 130)
        t.until(lambda: gone(started), f"the end of processes {started}")


@pytest.mark.parametrize("how", all_but(("SIGSTOP", "SIGTSTP"), "SIGSTOP"))
def test_stopped_and_continued(how: str) -> None:
    """After each stop and continuation the interface takes the terminal again, and restores it at its
    end."""
    with terminal("assets/guests/hello.s") as t:
        pid, before = t.process.pid, stty(t)
        t.see("0 instructions")
        raw = stty(t)
        for _ in range(3):
            taken = t.sent.count(TAKEN)
            os.kill(pid, getattr(signal, how))
            t.until(lambda: state(pid) == "T", "the stop")
            if how == "SIGTSTP":
                t.until(lambda: t.restored, "the terminal's own screen")
                assert stty(t) == before
            os.kill(pid, signal.SIGCONT)
            t.until(lambda taken=taken: t.sent.count(TAKEN) > taken and stty(t) == raw, "its return")
        t.press("n")
        t.see("done just now")
        t.press("qq")
        assert t.end() == 0
        assert t.restored
        assert stty(t) == before


def test_bad_input_is_one_line() -> None:
    """A file that is no program is refused before the screen changes, with code 2."""
    with terminal("no/such/file.s") as t:
        assert t.end() == 2
        t.read()
        assert "no/such/file.s" in t.text()
        assert "Traceback" not in t.text()


def test_what_is_drawn_is_not_written_to_a_file(tmp_path: Path) -> None:
    """With `2>FILE`, where the interface would draw, text is shown instead."""
    command = f"exec {shlex.join(again('hello'))} 2>{tmp_path / 'file'}"
    process = pexpect.spawn("sh", ["-c", command], cwd=str(ROOT), env=os.environ | {"TERM": "xterm"})
    process.expect("Equivalent", timeout=PATIENCE)
    process.expect(pexpect.EOF)
    assert (tmp_path / "file").read_text() == ""


def test_a_dumb_terminal_gets_plain_text() -> None:
    """With TERM=dumb the comparison is text without any escape sequence."""
    with terminal("assets/guests/hello.s", TERM="dumb") as t:
        assert t.end() == 0
        for _ in range(5):
            t.read()
        assert "hello" in t.text()
        assert "╭" not in t.text()


def test_a_guest_is_typed_into() -> None:
    """v gives the keyboard to tinyos in a real terminal: a command is typed, its arrow keys and Ctrl+C
    harm nothing, Esc gives the keys back, and q asks before it quits."""
    with terminal("tinyos", "--cores", "interpreter", "--disk", "assets/disks/files.img") as t:
        t.see("EMULATOR")
        t.press("v")
        t.see("The guest's console")
        t.press("help\r")
        t.see("preempted by the timer")
        t.press("\x1b[Aq\x03")
        t.see("> qc")  # tinyos knows letters alone
        t.press("\x1b")
        t.see("Who executes")
        t.press("q")
        t.see("Leave?")
        t.press("q")
        assert t.end() == 0
