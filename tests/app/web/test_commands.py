"""The commands classroom and serve, where they cannot begin: one sentence, and exit code 2."""

from __future__ import annotations

import importlib.util

import pytest

from app.main import main

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
