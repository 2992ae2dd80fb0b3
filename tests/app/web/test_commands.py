"""The commands classroom and serve, where they cannot begin: one sentence, and exit code 2."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pexpect
import pytest

from app.main import again, main

COMMANDS = [["classroom", "1"], ["serve"]]


@pytest.mark.parametrize("words", COMMANDS)
def test_without_the_extra(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the packages are not installed, the command says how they are had."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(words) == 2
    assert "pip install 'ringscope[classroom]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["classroom", "1"], "the teacher's keys need a terminal"),
        (["classroom", "1", "--most", "0"], "is no number from 1 to 1000"),
        (["classroom", "nothing"], "no lesson is called 'nothing'"),
        (["classroom", "1", "--answers", " "], "--answers: no file is named"),
        (["serve", "/etc/passwd"], "is no shipped guest and no lesson"),
        (["serve", "--listen", "everywhere"], "--listen: 'everywhere' is no ADDRESS:PORT"),
        (["serve", "--listen", "192.0.2.1:1"], "--listen 192.0.2.1:1: "),
        (["serve", "--most", "none"], "is no number from 1"),
    ],
)
def test_bad_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is missing or wrong is said in one line."""
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.full
@pytest.mark.skipif(os.name != "posix", reason="there is no pexpect")
def test_a_class_at_a_terminal(tmp_path: Path) -> None:
    """The teacher's terminal shows the address, plays by keys, and leaves the answers in a file, which
    may replace none of another kind."""
    answers = tmp_path / "answers.csv"
    command = again(
        "classroom", "two-ways", "--plain", "--listen", "127.0.0.1:0", f"--answers={answers}"
    )
    with pexpect.spawn(command[0], command[1:], encoding="utf-8", timeout=120) as teacher:
        teacher.expect(r"The class opens  http://127\.0\.0\.1:\d+/[a-z2-9]{12}/\r")
        teacher.expect("Enter begins the lesson")
        teacher.sendline("")
        while teacher.expect(["your prediction .*v: the votes so far.*> ", r"\n> "]):
            teacher.sendline("")
        teacher.sendline("v")
        teacher.expect(r"Votes: a 0   b 0   c 0   \(0 of 0\)")
        teacher.sendline("q")
        teacher.expect("answers.csv: 0 answers")
        teacher.expect(pexpect.EOF)
    assert answers.read_bytes().startswith(b"question,step,text,")
    answers.write_text("something else")
    with pexpect.spawn(command[0], command[1:], encoding="utf-8", timeout=120) as teacher:
        teacher.expect("--overwrite replaces it")
        teacher.expect(pexpect.EOF)
    assert answers.read_text() == "something else"
