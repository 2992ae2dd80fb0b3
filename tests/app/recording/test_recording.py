"""Recordings follow the asciicast format, and a player shows the same screens."""

from __future__ import annotations

import json
import os
import signal
import sys
import termios
from io import StringIO
from pathlib import Path

import pexpect
import pyte
import pytest

from app.main import again, main
from app.recording.asciicast import Cast
from app.recording.record_tui import Screen
from lessons import library
from tests.sampling import sampled

ROOT = Path(__file__).resolve().parents[3]


def read(cast: str) -> tuple[dict[str, object], list[tuple[float, str, str]]]:
    """A cast, held against asciicast v2's description: a header with version, width and height; then a
    line for each event, [seconds, code, text], in order of time."""
    first, *lines = cast.splitlines()
    header = json.loads(first)
    assert header["version"] == 2
    assert all(type(header[key]) is int and header[key] > 0 for key in ("width", "height"))
    assert isinstance(header["title"], str)
    events, last = [], 0.0
    for line in lines:
        event = json.loads(line)
        assert isinstance(event, list)
        assert len(event) == 3
        at, code, data = event
        assert type(at) in (int, float)
        assert at >= last
        assert code in ("o", "m")
        assert isinstance(data, str)
        last = at
        events.append((at, code, data))
    return header, events


def markers(events: list[tuple[float, str, str]]) -> list[str]:
    return [data for _, code, data in events if code == "m"]


def titles(lesson: str) -> list[str]:
    return [heading.title for _, heading in library.find(lesson).headings]


@pytest.mark.parametrize("path", sampled(library.course_files(), 5), ids=lambda path: path.stem)
def test_every_lesson_can_be_recorded_as_text(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text recording holds all that was printed, a marker for each step, and lasts as long as reading
    takes."""
    cast = tmp_path / "l.cast"
    assert main(["play", str(path), "--plain", "--record", str(cast)]) == 0
    header, events = read(cast.read_text())
    assert (header["width"], header["height"]) == (80, 30)
    assert markers(events) == titles(str(path))
    assert 60 * 2 < events[-1][0] < 60 * 15
    printed = "".join(data for _, code, data in events if code == "o")
    assert printed.replace("\r\n", "\n") == capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80


SHORT = """+++
title = "Short"
summary = "Two steps, for the recorder's test."
minutes = 1
guest = "hello"
needs = ["interpreter"]
+++

## One

It says hello.

## Two

And ends.
"""


@pytest.mark.parametrize("lesson", ["short", pytest.param("two-ways", marks=pytest.mark.full)])
def test_the_interface_is_recorded(lesson: str, tmp_path: Path) -> None:
    """At a terminal the interface is recorded as it plays; a player shows the same screens step by step
    and restores its terminal."""
    cast = tmp_path / "l.cast"
    if lesson == "short":
        (tmp_path / "short.md").write_text(SHORT)
        lesson = str(tmp_path / "short.md")
    own = {f"RINGSCOPE_{name}": str(tmp_path / name) for name in ("DATA", "RUNTIME", "CONFIG")}
    child = pexpect.spawn(
        sys.executable,
        again("play", lesson, "--speed", "500", "--record", str(cast))[1:],
        env={**os.environ, **own, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        dimensions=(40, 120), timeout=240,
    )  # fmt: skip
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    header, events = read(cast.read_text())
    assert (header["width"], header["height"]) == (120, 40)
    wanted = titles(lesson)
    assert markers(events) == wanted
    screen = pyte.Screen(120, 40)
    stream, seen = pyte.Stream(screen), ""
    for _, code, data in events:
        if code == "o":
            stream.feed(data)
            seen += "\n".join(screen.display)
    assert "Who executes the guest's code" in seen
    steps = [f"step {n} of {len(wanted)}: {title}" for n, title in enumerate(wanted, 1)]
    assert any(step in seen for step in steps)  # all are there for a moment, and need not be drawn
    drawn = "".join(data for _, code, data in events if code == "o")
    assert drawn.count("\x1b[?1049h") == drawn.count("\x1b[?1049l") == 1
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_recording_ended_by_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    """After a signal the terminal is restored, and the cast is valid up to that moment."""
    cast = tmp_path / "l.cast"
    own = {f"RINGSCOPE_{name}": str(tmp_path / name) for name in ("DATA", "RUNTIME", "CONFIG")}
    child = pexpect.spawn(
        sys.executable, again("play", "two-ways", "--record", str(cast))[1:],
        env={**os.environ, **own, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        dimensions=(40, 120), timeout=240,
    )  # fmt: skip
    before = termios.tcgetattr(child.child_fd)[:6]
    child.expect("TRAP AND EMULATE")
    assert termios.tcgetattr(child.child_fd)[:6] != before
    child.kill(number)
    child.expect_exact("\x1b[?1049l")
    child.expect(pexpect.EOF)
    assert termios.tcgetattr(child.child_fd)[:6] == before
    child.close()
    assert child.exitstatus == 128 + number
    _, events = read(cast.read_text())
    assert "\x1b[?1049l" in "".join(data for _, code, data in events if code == "o")


def test_what_is_not_for_players_is_left_out() -> None:
    """Mouse modes, keyboard modes and queries to the terminal are left out, wherever the output is
    split."""
    modes, questions = "\x1b[?1000h\x1b[?1006h\x1b[>1u\x1b[?2048h", "\x1b[?2026$p\x1b[c"
    text = f"\x1b[?1000;1h\x1b[1mö{modes}\x1b[31mred{questions}\x1b[0m"
    wanted = "\x1b[?1000;1h\x1b[1mö\x1b[31mred\x1b[0m"
    data = text.encode()
    for size in range(1, len(data) + 1):
        file = StringIO()
        screen = Screen(Cast(file, "t", 80, 24), lambda: 0.0)
        for at in range(0, len(data), size):
            screen.drawn(data[at : at + size])
        _, events = read(file.getvalue())
        assert "".join(output for _, _, output in events) == wanted


def test_a_recording_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that cannot be written is reported in one line before anything is played."""
    assert main(["play", "two-ways", "--plain", "--record", "/nowhere/l.cast"]) == 2
    out, err = capsys.readouterr()
    reason = "cannot be written: No such file or directory"
    assert (out, err) == ("", f"ringscope play: /nowhere/l.cast: {reason}\n")
