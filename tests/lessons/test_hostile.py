"""Lessons broken by mistake or on purpose are reported by line, and do no harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.main import main
from cores.errors import InputError
from lessons.checker import check
from lessons.format.expressions import ExpressionError, parse
from lessons.format.parser import parse_file, parse_text
from lessons.library import course_files
from tests.sampling import sampled

HEAD = '+++\ntitle = "T"\nsummary = "S"\nminutes = 5\nguest = "hello"\n+++\n## One\n'


def problem(tmp_path: Path, text: str | bytes) -> str:
    """The message of `check` for such a lesson, without its directory."""
    path = tmp_path / "x.md"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (found,) = check(str(path)).problems
    assert found.syntax
    return str(found).removeprefix(f"{tmp_path}{os.sep}")


@pytest.mark.parametrize("path", sampled(course_files(), 5), ids=lambda path: path.stem)
def test_a_lost_line_is_told_by_a_line(path: Path) -> None:
    """A lesson without one of its lines can be read, or a line of it is reported; no other error
    occurs."""
    lines = path.read_text().split("\n")
    told = [_line_of(lines[:lost] + lines[lost + 1 :], path) for lost in range(len(lines))]
    assert all(line is None or 1 <= line <= len(lines) for line in told)
    assert sum(line is not None for line in told) > 10


def _line_of(lines: list[str], path: Path) -> int | None:
    """The line of the mistake; None if the lines can be read."""
    try:
        parse_text("\n".join(lines), str(path))
    except InputError as error:
        return error.line or 0
    return None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (bytes(range(256)), "x.md:2: not text"),
        ("", "x.md:1: a lesson begins with"),
        (HEAD.encode("utf-16"), "x.md:1: not text"),
        (HEAD + "x" * (2 << 20), "x.md: too long for a lesson"),
        ("+++\na = " + "[" * 5000 + "]" * 5000 + "\n+++\n## A\n", "x.md:2: nested too deeply"),
        (HEAD.replace("hello", "../../../../etc/passwd"), "x.md:5: no guest"),
        (HEAD.replace("hello", "/etc/passwd"), "x.md:5: no guest"),
        (HEAD.replace("hello", "a\\u0000b"), "x.md:5: no guest"),
        (HEAD.replace("hello", "a" * 5000), "x.md:5: no guest"),
        (HEAD.replace("+++\n##", 'disk = "/etc/passwd"\n+++\n##'), "x.md:6: no disk"),
        (HEAD + "```pause\nseconds = inf\n```\n", "x.md:9: seconds is a number from 0 to 60"),
        (HEAD + f"```pause\nseconds = {'9' * 5000}\n```\n", "x.md:9: too large a number"),
        (HEAD + f"```step\ntimes = 0x{'f' * 5000}\n```\n", "x.md:9: too large a number"),
        (HEAD.replace("+++\n##", f"vary={{n = [0x{'f' * 5000}]}}\n+++\n##"), "x.md:6: vary.n is a"),
        (HEAD.replace("+++\n##", "ram = 3000000\n+++\n##"), "x.md:6: ram is a multiple of 2 MiB"),
        (HEAD + "a\u2028\fb\n\n{1 +}\n", "x.md:10: not an expression"),
        (HEAD + "```pause\nseconds = nan\n```\n", "x.md:9: seconds is a number from 0 to 60"),
        (HEAD + "```step\ntimes = -1\n```\n", "x.md:8: not so many times: -1"),
        (HEAD + '```show\nview = "pages"\naddress = -1\n```\n', "x.md:8: no address: -0x1"),
        (HEAD + '```quote\nfile = "cores/\\u0000"\ntag = "a"\n```\n', "x.md:10: no source file"),
        (HEAD + '```ask\nquestion = "{1 +}"\nnumber = "1"\n```\n', "x.md:9: not an expression"),
        (HEAD + '```ask\nquestion = "?"\nwhy = "{b.c}"\nnumber = "trap.exits"\n```\n', "x.md:8: not"),
        (HEAD.replace("\n", "\r\n") + "{trap.}\r\n", "x.md:8: not an expression"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_line(tmp_path: Path, text: str | bytes, expected: str) -> None:
    """Binary files, wrong encodings, nesting, sizes and paths are bad input with a line."""
    assert problem(tmp_path, text).startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 900 + "1" + ")" * 900,
        "not " * 400 + "1",
        "-" * 1900 + "1",
        "a" + ".b" * 900,
        "1" + "+1" * 900,
        "9" * 4999,
        "1or 2",
        "9" * 100,
    ],
)
def test_expressions_have_bounds(text: str) -> None:
    """Expressions that are too deep, long or large are refused when they are read."""
    with pytest.raises(ExpressionError):
        parse(text)


def test_numbers_have_bounds() -> None:
    """Computed numbers are bounded, too."""
    with pytest.raises(ExpressionError, match="too large"):
        parse("*".join(["99999999999999999999"] * 50)).value(lambda name: 0)


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices with names")
def test_only_files_are_read(tmp_path: Path) -> None:
    """A pipe is not waited for, and an endless device is not read."""
    pipe = tmp_path / "pipe.md"
    os.mkfifo(pipe)
    for path in (str(pipe), "/dev/zero", str(tmp_path)):
        with pytest.raises(InputError):
            parse_file(path)


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_link_leads_no_further(tmp_path: Path) -> None:
    """A link beside the lesson to a file elsewhere is no guest."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\x90")
    lesson = tmp_path / "lesson"
    lesson.mkdir()
    (lesson / "guest.bin").symlink_to(secret)
    with pytest.raises(InputError, match="no guest"):
        parse_text(HEAD.replace("hello", "guest.bin"), str(lesson / "x.md"))


def test_a_lesson_does_not_drive_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters in a lesson are shown, not sent."""
    path = tmp_path / "x.md"
    ask = '```ask\nquestion = "\\u001b[2Jwhat?"\nnumber = "trap.exits"\n```\n'
    path.write_text(HEAD + f"\x1b]0;title\x07 and _no\x1bterm_.\n\n{ask}")
    assert main(["play", str(path), "--plain"]) == 0
    assert main(["check", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\\x1b[2Jwhat?" in out
