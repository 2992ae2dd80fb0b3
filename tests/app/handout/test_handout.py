"""Handouts: one file with everything in it, films that are what the machines did, answers hidden."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from app.handout.film import MOST_FRAMES
from app.handout.page import page
from app.handout.recorder import Film, Question, perform
from app.main import main
from app.text.html import inline
from lessons.format.parser import parse_text
from lessons.library import find

HEAD = '+++\ntitle = "A <script> & co"\nsummary = "S"\nminutes = 5\nguest = "hello"\n+++\n## One\n'
LARGEST = 1 << 20


def films_of(text: str) -> list[dict[str, object]]:
    found = re.search(r'<script type="application/json" id="films">(.*?)</script>', text, re.DOTALL)
    assert found
    loaded: list[dict[str, object]] = json.loads(found.group(1))
    return loaded


@pytest.mark.parametrize(
    "name", ["first-call", "foreign", pytest.param("memory", marks=pytest.mark.full)]
)
def test_a_handout_is_one_small_file(name: str) -> None:
    """A handout fetches nothing, and is smaller than a mebibyte."""
    text = page(perform(find(name)))
    assert len(text.encode()) < LARGEST
    assert "<link" not in text
    assert "default-src 'none'" in text
    assert all(src.startswith("data:") for src in re.findall(r'src="([^"]*)"', text))
    assert len(films_of(text)) > 2


def test_films_are_what_the_machines_did() -> None:
    """The frames of a move end in the machines' state after it; exits, registers and output agree."""
    performance = perform(find("first-call"))
    films = [part for part in performance.parts if isinstance(part, Film)]
    films += [f for part in performance.parts if isinstance(part, Question) for f in part.films]
    for film in films:
        data, now = film.data, film.moved.now
        assert data["cores"] == [machine.core.partition(":")[0] for machine in now.machines]
        frames = data["frames"]
        assert isinstance(frames, list)
        assert 2 <= len(frames) <= MOST_FRAMES
        for number, machine in enumerate(now.machines):
            done, address, ring, exits, console, _ = frames[-1][number]
            assert (done, ring, exits) == (machine.instructions, machine.ring, machine.exits)
            assert address == machine.registers["rip"]
            assert console == len(machine.console)
            known: dict[int, str] = {}
            for frame in frames:
                known |= frame[number][5]
            names = data["names"]
            assert isinstance(names, list)
            for index, name in enumerate(names):
                assert int(known[index], 16) == machine.registers[name]


def test_the_films_of_a_question_are_in_its_answer() -> None:
    """What the machines do after a question is inside its hidden answer; each choice has its reply."""
    questions = [p for p in perform(find("first-call")).parts if isinstance(p, Question)]
    assert all(question.verdict is not None for question in questions)
    first = questions[0]
    assert (first.letter, len(first.films), len(first.replies)) == ("b", 1, 3)
    text = page(perform(find("first-call")))
    hidden = re.search(r"<details>.*?</details>", text, re.DOTALL)
    assert hidden
    assert "data-film" in hidden.group(0)


def test_marks_do_not_answer_a_question() -> None:
    """Before the first answer the code of a film does not say what leaves the guest."""
    parts = perform(find("first-call")).parts
    early = next(part for part in parts if isinstance(part, Film))
    question = next(part for part in parts if isinstance(part, Question))
    assert not any(any(line[3]) for line in _code(early))
    assert any(any(line[3]) for line in _code(question.films[0]))


def _code(film: Film) -> list[list[list[str]]]:
    code = film.data["code"]
    assert isinstance(code, list)
    return code


def test_a_hostile_lesson_stays_text() -> None:
    """Markup and control characters of a lesson, and of a guest's output, are shown as text."""
    body = 'A <img src=x onerror=alert(1)> \x1b and `<b>`.\n\n```run\nsymbol = "next"\n```\nEnd.\n'
    text = page(perform(parse_text(HEAD + body, "x.md")))
    assert "<img src=x" not in text
    assert "A &lt;script&gt; &amp; co" in text
    assert "\x1b" not in text
    assert inline("**a** *b* `c_d_e` _ring_ <i>").startswith(
        "<strong>a</strong> <em>b</em> <code>c&#95;d"
    )


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is written, written anew, and no file of another kind is replaced."""
    lesson, out = tmp_path / "x.md", tmp_path / "x.html"
    lesson.write_text(HEAD + "Words.\n")
    assert main(["handout", str(lesson), "-o", str(out)]) == 0
    assert "to be opened in any browser" in capsys.readouterr().out
    assert main(["handout", str(lesson), "-o", str(out)]) == 0
    out.write_text("something else")
    assert main(["handout", str(lesson), "-o", str(out)]) == 2
    assert out.read_text() == "something else"
