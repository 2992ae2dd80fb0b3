"""The commands of the course: list, play as text, record, teacher's notes, check, new lesson."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from app.main import again, main
from cores.programs.shipped import programs
from lessons import library, progress
from lessons.checker import Limits, check

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGSCOPE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RINGSCOPE_RUNTIME", str(tmp_path / "runtime"))


def out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_lessons_lists_the_course(capsys: pytest.CaptureFixture[str]) -> None:
    """Each lesson is listed by number, name and title, with its remembered state."""
    progress.save("first-call", progress.Record(2, False, {"q": ("a", True)}))
    assert main(["lessons"]) == 0
    text = out(capsys)
    assert " 1  two-ways            Two ways to run a program  (7 min)" in text
    assert "step 2 of 5, 1 of 3 answers right" in " ".join(text.split())


@pytest.mark.parametrize("columns", [20, 30, 45, 80, 200])
def test_the_list_at_every_width(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At every width names and titles stay apart, and only a single word that is too long exceeds the
    width."""
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["lessons"]) == 0
    text = out(capsys)
    assert max(map(len, text.splitlines())) <= max(min(columns, 80), 31)
    for lesson in library.course():
        assert re.search(rf"^ ?{lesson.number}  {lesson.name}( {{2,}}\w|$)", text, re.MULTILINE)


def test_playing_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal the whole lesson is printed, each question with its answer; no progress is
    stored."""
    assert main(["play", "two-ways", "--plain"]) == 0
    text = out(capsys)
    assert "? So who computed the sum on the trap core?" in text
    assert "Answer: b) The CPU itself." in text
    assert "6/6  In three sentences" in text
    assert max(map(len, text.splitlines())) <= 80
    assert progress.load() == {}


def test_the_teachers_notes(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal to follow, all notes are printed, step by step."""
    assert main(["play", "two-ways", "--notes"]) == 0
    text = out(capsys)
    assert "1/6  One program, several machines" in text
    assert "- Let the class read" in text
    assert "? So who computed the sum on the trap core?" in text
    assert "next: One addition" in text
    assert max(map(len, text.splitlines())) <= 80


def test_an_unknown_lesson(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown name is bad input, with a suggestion."""
    assert main(["play", "tow-ways"]) == 2
    assert "no lesson is called 'tow-ways'; did you mean 'two-ways'?" in capsys.readouterr().err


def test_new_lesson_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lesson that new-lesson writes passes check; no file is overwritten; mistakes give a line and
    an exit code."""
    there = tmp_path / "mine"
    lesson = there / "lesson.md"
    assert main(["new-lesson", str(there)]) == 0
    assert main(["check", str(lesson)]) == 0
    assert "claims hold on interpreter" in out(capsys)
    assert main(["new-lesson", str(there)]) == 2
    text = lesson.read_text()
    lesson.write_text(text.replace("new.trap.exits == 2", "new.trap.exits == 3"))
    assert main(["check", str(lesson)]) == 1
    line = 1 + text[: text.index('"new.trap.exits == 2"')].count("\n")
    assert (
        f"{lesson}:{line}: expected new.trap.exits == 3; new.trap.exits is 2" in capsys.readouterr().err
    )
    lesson.write_text(text.replace("minutes = 5", "minutes ="))
    assert main(["check", str(lesson)]) == 2


@pytest.fixture
def terminal() -> Iterator[pexpect.spawn]:
    child = pexpect.spawn(
        sys.executable, again("play", "two-ways", "--plain")[1:], encoding="utf-8",
        timeout=240, env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"},
    )  # fmt: skip
    yield child
    child.close(force=True)


def test_playing_at_a_terminal(terminal: pexpect.spawn) -> None:
    """Keys go forward, back and jump; the machines can be taken over; answers are judged and progress
    is stored."""
    terminal.expect("> $")
    terminal.sendline("? exit")
    terminal.expect("exit, VM exit: ")
    terminal.sendline("t")
    terminal.expect("machines > $")
    terminal.sendline("n")
    terminal.expect("> 100002")
    terminal.sendline("l")
    terminal.expect("> $")
    terminal.sendline("j One addition")
    terminal.expect("2/6  One addition")
    terminal.expect("prediction .* > $")
    terminal.sendline("z")
    terminal.expect("The answer is one of a, b, c.")
    terminal.sendline("a")
    terminal.expect(r"You said a\. It was b\) The CPU itself\. There is no emulator")
    terminal.expect("> $")
    terminal.sendline("q")
    terminal.expect(pexpect.EOF)
    record = progress.load()["two-ways"]
    assert (record.step, record.done) == (2, False)
    assert record.answers == {"So who computed the sum on the trap core?": ("a", False)}


def test_notes_follow_another_terminal(terminal: pexpect.spawn) -> None:
    """The second terminal shows the notes of the first one's current step."""
    terminal.expect("> $")
    notes = pexpect.spawn(
        sys.executable, again("play", "two-ways", "--notes")[1:], encoding="utf-8",
        timeout=240, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    notes.expect("Let the class read")
    terminal.sendline("j 3")
    terminal.expect("prediction .* > $")
    terminal.sendline("0")
    terminal.expect("> $")
    notes.expect("Have the class vote")
    terminal.sendline("q")
    notes.expect("The lesson has ended.")
    notes.close(force=True)


def test_check_gives_an_endless_guest_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A guest that never ends is given up after the time allowed, and its line is reported."""
    (tmp_path / "guest.s").write_text("_start: cli\nx: jmp x\n")
    lesson = tmp_path / "lesson.md"
    lesson.write_text(
        '+++\ntitle = "T"\nsummary = "S"\nminutes = 5\nguest = "guest.s"\n'
        'cores = ["interpreter"]\n+++\n## One\n'
        "```run\nend = true\nlimit = 100_000_000\n```\n"
    )
    told: list[str] = []
    (problem,) = check(str(lesson), None, Limits(1e-9, told.append)).problems
    assert (problem.line, problem.syntax) == (9, True)
    assert problem.message.startswith("given up after")
    assert main(["check", str(lesson), "--timeout", "0.000001"]) == 2
    assert "is the guest endless?" in capsys.readouterr().err
    assert main(["check", str(lesson), "--timeout", "never"]) == 2


def test_the_shipped_guests_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each shipped program is listed with what it shows and a command that runs it."""
    assert main(["guests", "--json"]) == 0
    listed = json.loads(out(capsys))["guests"]
    assert [guest["file"] for guest in listed] == [path.name for path in programs()]
    assert all(guest["shows"].endswith((".", "!")) for guest in listed)
    assert [guest["name"] for guest in listed if guest["disk"]] == [
        "dma",
        "driver",
        "file",
        "pico",
        "swap",
        "tinyos",
    ]
    assert main(["guests"]) == 0
    assert "ringscope compare hello" in out(capsys)
