"""How a reader names a lesson."""

from __future__ import annotations

from pathlib import Path

import pytest

from cores.errors import InputError
from lessons.library import find, is_lesson


@pytest.mark.parametrize("word", ["two-ways", "1", "01", "01-two-ways"])
def test_names(word: str) -> None:
    """A lesson is called by its name, its number, or both, wherever one can be named."""
    assert is_lesson(word)
    assert find(word).name == "two-ways"


def test_no_lesson() -> None:
    """Other words name none."""
    for word in ("", "0", "99", "2-ways"):
        assert not is_lesson(word)
        with pytest.raises(InputError, match="no lesson is called"):
            find(word)


def test_program_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file called "1" is the reader's program."""
    monkeypatch.chdir(tmp_path)
    Path("1").write_bytes(b"\xf4")
    assert not is_lesson("1")
