"""Quotes in lessons are taken from the present source."""

from __future__ import annotations

from pathlib import Path

import pytest

from lessons.format import source_quotes

CODE = '''\
"""A file."""

LIMIT = 3


class Loop:
    """Goes round."""

    @property
    def turns(self) -> int:
        return LIMIT

    def go(self) -> None:
        while self.turns:
            # lesson: first
            # Why this is done first.
            self.one()
            if self.two():
                self.three()
            # lesson: second
            # And this afterwards.
            self.four()
        self.five()

    def rest(self) -> None:
        # lesson: last
        self.six()

        self.seven()
'''


@pytest.fixture(autouse=True)
def own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cores").mkdir()
    (tmp_path / "cores" / "loop.py").write_text(CODE)
    (tmp_path / "secret.py").write_text("KEY = 1\n")
    monkeypatch.setattr(source_quotes, "ROOT", tmp_path)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("first", "# Why this is done first.\nself.one()\nif self.two():\n    self.three()"),
        ("second", "# And this afterwards.\nself.four()"),
        ("last", "self.six()"),
    ],
)
def test_a_tagged_comment_and_what_follows(tag: str, expected: str) -> None:
    """A tag's quote ends at the next tag, a blank line, or the end of its block."""
    assert source_quotes.tagged("cores/loop.py", tag) == expected


def test_a_definition() -> None:
    """A class, a decorated method and a constant are quoted whole, without tags and indentation."""
    assert source_quotes.definition("cores/loop.py", "LIMIT") == "LIMIT = 3"
    assert source_quotes.definition("cores/loop.py", "Loop.turns").startswith("@property\ndef turns")
    whole = source_quotes.definition("cores/loop.py", "Loop.go")
    assert "# lesson:" not in whole
    assert "# Why this is done first." in whole
    assert whole.endswith("self.five()")


@pytest.mark.parametrize(
    "file", ["secret.py", "cores/../secret.py", "/etc/passwd", "cores", "cores/none.py", "cores/\0.py"]
)
def test_only_our_source_is_quoted(file: str) -> None:
    """A quote cannot read files outside the source."""
    with pytest.raises(source_quotes.NotThere):
        source_quotes.definition(file, "KEY")


def test_a_source_that_is_being_worked_on(tmp_path: Path) -> None:
    """Source that cannot be parsed is reported with its line; a tag in it is still found."""
    (tmp_path / "cores" / "half.py").write_text("# lesson: a\nx = 1\nif\n")
    assert source_quotes.tagged("cores/half.py", "a") == "x = 1\nif"
    with pytest.raises(source_quotes.NotThere, match="invalid syntax in line 3"):
        source_quotes.definition("cores/half.py", "x")


def test_what_is_not_there() -> None:
    """A missing definition and a missing tag are reported by name."""
    with pytest.raises(source_quotes.NotThere, match=r"defines no Loop\.stop"):
        source_quotes.definition("cores/loop.py", "Loop.stop")
    with pytest.raises(source_quotes.NotThere, match="no comment '# lesson: third'"):
        source_quotes.tagged("cores/loop.py", "third")
