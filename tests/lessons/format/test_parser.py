"""The lesson format: valid lessons are read, and each mistake is reported with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cores.errors import InputError
from lessons.format.expressions import REASONS, ExpressionError, parse
from lessons.format.parser import _BLOCKS, parse_text
from lessons.format.script import FOCUSES, VIEWS, Ask, Expect, Heading, Move, Text, Until

HEAD = '+++\ntitle = "T"\nsummary = "S"\nminutes = 5\nguest = "hello"\n+++\n## One\n'


def lesson(body: str, head: str = HEAD) -> list[object]:
    return list(parse_text(head + body, "x/07-some-name.md").items)


def mistake(body: str, head: str = HEAD) -> str:
    with pytest.raises(InputError) as error:
        parse_text(head + body, "x.md")
    return str(error.value)


def test_a_lesson_is_made_of_headings_paragraphs_and_blocks() -> None:
    """Text between blocks becomes items in order, each with its line."""
    found = lesson('Two\nlines.\n\nMore.\n```run\nexit = "io"\ntimes = 2\n```\nEnd.\n')
    heading, first, second, move, end = found
    assert isinstance(heading, Heading)
    assert (heading.line, heading.title) == (7, "One")
    assert isinstance(first, Text)
    assert (first.line, first.markdown) == (8, "Two\nlines.")
    assert isinstance(second, Text)
    assert second.line == 11
    assert isinstance(move, Move)
    assert (move.line, move.until, move.text) == (12, Until.EXIT, "io")
    assert isinstance(end, Text)


def test_name_and_number_come_from_the_file() -> None:
    """The file "07-some-name.md" is lesson 7, named some-name."""
    parsed = parse_text(HEAD, "x/07-some-name.md")
    assert (parsed.number, parsed.name) == (7, "some-name")


def test_claims_know_their_lines() -> None:
    """A claim in a list is reported with its own line, escapes included."""
    (_, expect) = lesson('```expect\nthat = [\n  "trap.exits == 1",\n  "a == \'\\n\'",\n]\n```\n')
    assert isinstance(expect, Expect)
    assert [claim.line for claim in expect.claims] == [10, 11]


def test_a_question_with_choices() -> None:
    """Choices, their conditions and the move after the answer are read."""
    body = (
        '```ask\nquestion = "?"\nthen = { step = 3 }\n[[choice]]\ntext = "a"\nwhen = "true"\n'
        '[[choice]]\ntext = "b"\nwhen = "false"\nwhy = "no"\n```\n'
    )
    (_, ask) = lesson(body)
    assert isinstance(ask, Ask)
    assert ask.then is not None
    assert ask.then.until is Until.STEP
    assert [choice.why for choice in ask.choices] == ["", "no"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('```run\nexti = "io"\n```\n', "x.md:8: say where to stop"),
        ('```run\nexit = "io"\ntime = 2\n```\n', "x.md:10: nothing is called 'time' here; did you"),
        ('```run\nexit = "oi"\n```\n', "x.md:9: no exit reason 'oi'"),
        ("```run\nexit = \n```\n", "x.md:9: not a value: write"),
        ("```rum\n```\n", "x.md:8: no block is called 'rum'"),
        ('```run\nexit = "io"\n', "x.md:8: this block is never closed"),
        ("Text {trap.}.\n", "x.md:8: not an expression"),
        ('```expect\nthat = [\n  "1 == 1",\n  "1 ==",\n]\n```\n', "x.md:11: not an expression"),
        ('```ask\nquestion = "?"\nnumber = "open(1)"\n```\n', "x.md:10: not part of the"),
        ('```ask\nquestion = "?"\n```\n', "x.md:8: an ask needs either"),
        ('```show\nview = "all"\n```\n', "x.md:9: no view is called 'all'"),
        ('```show\nview = "pages"\n```\n', "x.md:9: pages needs an address"),
        ('```load\nguest = "nobody"\n```\n', "x.md:9: no guest 'nobody'"),
        (
            '```quote\nfile = "cores/vmm/vmm.py"\nobject = "Vmm.stop_it"\n```\n',
            "x.md:10: cores/vmm/vmm.py def",
        ),
        ('```quote\nfile = "app/main.py"\nobject = "main"\n```\n', "x.md:10: no source file of cores/"),
        ('```step\ntimes = "two"\nnext = 1\n```\n', "x.md:10: nothing is called 'next'"),
        ('```ask\nquestion = "?"\nnumber = "3"\n```\n', "x.md:10: 3 is known beforehand"),
        (
            '```ask\nquestion = "?"\n[[choice]]\ntext = "a"\nwhen = "1 == 1"\nwhy = "b"\n```\n',
            "x.md:12: 1 == 1 is known beforehand; write true or false",
        ),
        ('```expect\nthat = ["trap.exits = 3"]\n```\n', "x.md:9: not an expression: 'trap.ex"),
        ('```run\nseconds = 1\n```\n', "x.md:9: write free = true, too"),
        ('```run\nfree = true\nseconds = 0\n```\n', "x.md:10: seconds is a number up to 20"),
        ('```run\nfree = true\nsymbol = "next"\n```\n', "x.md:9: a free run ends"),
        ('```run\nend = true\n\n## Two\n', "x.md:8: this block is never closed: ```"),
        ('```run\nend = true\n```step\n```\n', "x.md:8: this block is never closed"),
        ('```load\npure = tru\n```\n', "x.md:9: not a value: write a text in quotes"),
        ("## Two\n## one\n", "x.md:9: a step is called 'one' already, in line 7"),
        (
            '```quote\nfile = "cores/vmm/vmm.py"\nobject = "Vmm.step"\nlook = "See `reflct`."\n```\n',
            "x.md:11: 'reflct' does not stand in cores/vmm/vmm.py: Vmm.step",
        ),
        ('```load\nnet = ["tap"]\n```\n', "x.md:9: 'tap' is no network; write"),
        ('```load\nnet = ["user,pcap:x"]\n```\n', "x.md:9: a lesson's network is user or ping, and"),
        ('```load\ngive = ["disk"]\n```\n', "x.md:9: 'disk' cannot be given to a guest; there"),
        ('```image\nfile = "x.svg"\nalt = "A"\n```\n', "x.md:9: no picture 'x.svg' beside the lesson"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_line(body: str, expected: str) -> None:
    """Every kind of mistake in a block is reported as file:line: message."""
    assert mistake(body).startswith(expected)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("# No head\n", "x.md:1: a lesson begins with"),
        ('+++\ntitle = "T"\n', "x.md:1: the front matter's second"),
        ('+++\ntitle = "T"\nsummary = "S"\nminutes = 90\nguest = "hello"\n+++\n## A\n', "x.md:4: min"),
        ('+++\ntitle = "T"\nsummary = 3\n+++\n', "x.md:3: summary is a text"),
        ('+++\ntitle = "T"\nsummary = "S"\nminutes = 5\n+++\n## A\n', "x.md:1: guest ="),
        (HEAD.replace("+++\n##", 'needs = ["vax"]\n+++\n##'), "x.md:6: no core is called 'vax'"),
        (HEAD.replace("+++\n##", 'tittle = "T"\n+++\n##'), "x.md:6: nothing is called 'tittle'"),
        (HEAD.replace("## One\n", "Words.\n"), "x.md:7: a lesson needs a step"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_head_names_its_line(head: str, expected: str) -> None:
    """Every kind of mistake in the front matter is reported with its line."""
    assert mistake("", head).startswith(expected)


def test_expressions_are_a_small_language() -> None:
    """Arithmetic, comparisons and names are evaluated; anything else is refused by the parser."""
    values = {("a", "b"): 4, ("m", "16"): 7}
    assert parse("a.b * 2 + m[0x10] == 15 and not a.b < 1").value(values.__getitem__) is True
    assert parse("'x' in 'xy'").value(values.__getitem__) is True
    for text in (
        "__import__('os')",
        "[1]",
        "a.b if 1 else 2",
        "lambda: 1",
        "a[b]",
        "a.b ** 9",
        "f'{a}'",
    ):
        with pytest.raises(ExpressionError):
            parse(text)


def test_guests_beside_the_lesson_come_first(tmp_path: Path) -> None:
    """A file beside the lesson takes precedence over a shipped guest of that name."""
    (tmp_path / "hello").write_bytes(b"\x90")
    parsed = parse_text(HEAD, str(tmp_path / "l.md"))
    assert parsed.setup.guest == str(tmp_path / "hello")


def test_the_documentation_tells_all_of_it() -> None:
    """docs/lessons.md has every block, view, focus and reason that a lesson may name."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "lessons.md").read_text()
    words = set(re.findall(r"\w+", page))
    assert {*_BLOCKS, *VIEWS, *FOCUSES, *REASONS, *(until.value for until in Until)} <= words
