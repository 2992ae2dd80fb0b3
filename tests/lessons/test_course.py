"""The course: every lesson is true on every core here, and has the form of a lesson."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assets.build import lesson_guests
from cores.engines import registry
from cores.programs import shipped
from cores.programs.assembler.keystone import assemble
from cores.programs.program import LOAD_ADDRESS
from lessons import glossary
from lessons.checker import check
from lessons.format.parser import parse_file
from lessons.format.script import Ask, Heading, Note, Text
from lessons.library import course_files, find, names
from tests.sampling import all_but

FILES = course_files()
TEMPLATE = Path(glossary.FILE).parent / "template" / "lesson.md"


@pytest.mark.parametrize(
    "path",
    all_but([*FILES, TEMPLATE], *(p for p in FILES if "real-system" in p.stem)),
    ids=lambda p: p.stem,
)
def test_every_claim_holds(path: Path) -> None:
    """On all cores here, every expectation and question of the lesson holds."""
    result = check(str(path))
    assert [str(problem) for problem in result.problems] == []


@pytest.mark.parametrize("seed", [1, 2])
def test_claims_hold_whatever_the_seed(seed: int) -> None:
    """Lessons with varied numbers are true with other numbers, too."""
    for path in FILES:
        if parse_file(str(path)).vary:
            assert check(str(path), seed).problems == ()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_lesson_has(path: Path) -> None:
    """A lesson takes five to ten minutes, and has two predictions, notes for the teacher, and three
    closing sentences."""
    lesson = parse_file(str(path))
    assert 5 <= lesson.minutes <= 10
    assert sum(isinstance(item, Ask) for item in lesson.items) >= 2
    assert any(isinstance(item, Note) for item in lesson.items)
    *_, heading, closing = lesson.items
    assert isinstance(heading, Heading)
    assert isinstance(closing, Text)
    assert len(re.findall(r"[.?!](?=\s|$)", closing.markdown)) == 3


def test_the_table_for_teachers() -> None:
    """docs/classroom.md names lessons that exist, and each of the course at least once."""
    text = (Path(__file__).parents[2] / "docs" / "classroom.md").read_text()
    table = text.partition("| one hears |")[2].partition("\n\n")[0]
    rows = table.splitlines()[2:]
    named = [re.findall(r"`([^`]+)`", row) for row in rows]
    assert all(named)
    assert {name for row in named for name in row} == set(names())


def test_the_course_without_native_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ptrace and KVM the lessons hold on trap:portable, and the KVM lesson says that KVM is
    absent."""
    probe = registry._probe
    absent = {"trap:native", "kvm"}
    monkeypatch.setattr(registry, "_probe", lambda core: "not here" if core in absent else probe(core))
    for name in ("two-ways", "first-call", "silent", "hardware", "device"):
        result = check(find(name).path)
        assert [str(problem) for problem in result.problems] == []
        assert "kvm" not in result.cores


def test_a_broken_lesson_is_told_by_line(tmp_path: Path) -> None:
    """A false expectation, an unknown symbol and a word without a glossary entry are each reported with
    their line."""
    text = TEMPLATE.read_text()
    (tmp_path / "guest.s").write_text((TEMPLATE.parent / "guest.s").read_text())
    lines = text.splitlines()
    path = tmp_path / "lesson.md"

    def problems(old: str, new: str) -> list[tuple[int | None, bool]]:
        path.write_text(text.replace(old, new))
        return [(problem.line, problem.syntax) for problem in check(str(path)).problems]

    def line(of: str) -> int:
        return next(i for i, words in enumerate(lines, 1) if of in words)

    assert problems("interpreter.exits == 0", "interpreter.exits == 1") == [
        (line("interpreter.exits == 0"), False)
    ]
    assert problems('symbol = "done"', 'symbol = "gone"') == [(line("```ask"), True)]
    assert problems("_world switch_", "_word switch_") == [(line("_world switch_"), False)]
    assert problems("[[wrong]]", "[[wrong]") == [(line("[[wrong]]"), True)]
    assert problems("answer > 2", "answer > 1") == [(line("```ask"), False)]
    assert problems('why = "One for', '# why = "One for') == [(line("```ask"), False)]


def test_guests_have_images() -> None:
    """The lessons' guests have images equal to their sources, for hosts without an assembler."""
    for source in lesson_guests():
        content = source.read_bytes()
        image = shipped.image_of(content)
        assert image is not None, f"python -m assets.build has not seen {source.name}"
        assert image.code == assemble(content.decode(), source.name, LOAD_ADDRESS).code


def test_the_glossary() -> None:
    """Terms are found in any case, number and hyphenation, and each has an explanation."""
    assert all(text for text in glossary.terms().values())
    for word in ("World switches", "page fault", "shadow page table", "IF", "virtual machine monitor"):
        assert glossary.explain(word) is not None
    assert glossary.explain("flux capacitor") is None
