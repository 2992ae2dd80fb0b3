"""The page of a handout: HTML with everything in it, and nothing fetched from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

from app.handout.recorder import Film, Part, Performance, Question
from app.text import lesson as lesson_text
from app.text.html import dedented, escaped, inline, markup, picture
from lessons.play.events import Begun, LeftOut, Pictured, Quoted, Said, Shown

HERE = Path(__file__).resolve().parent
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(performance: Performance) -> str:
    """The whole file."""
    lesson = performance.lesson
    number = f"Lesson {lesson.number}: " if lesson.number else ""
    body = _Body()
    for part in performance.parts:
        body.add(part)
    cores = ", ".join(performance.cores)
    answers = "".join(f"<li>{answer}</li>" for answer in body.answers)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escaped(lesson.title)}</title>
<style>{(HERE / "page.css").read_text(encoding="utf-8")}</style></head>
<body><main>
<header><h1>{escaped(number + lesson.title)}</h1><p>{inline(lesson.summary)}</p>
<p class="meta">{lesson.minutes} minutes. The machines: {escaped(cores)}. Drag a slider, or use the
arrow keys on it, to go through what they did; [ and ] go from exit to exit.</p></header>
{"".join(body.html)}
<section class="answers"><h2>Answers</h2><ol>{answers}</ol></section>
</main>
<script type="application/json" id="films">{_json(body.films)}</script>
<script>{(HERE / "page.js").read_text(encoding="utf-8")}</script>
</body></html>
"""


def _json(films: list[dict[str, object]]) -> str:
    """JSON that cannot end its script element."""
    return json.dumps(films, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


class _Body:
    """The page's parts, in order. films: their data; answers: for print."""

    def __init__(self) -> None:
        self.html: list[str] = []
        self.films: list[dict[str, object]] = []
        self.answers: list[str] = []

    def add(self, part: Part) -> None:
        match part:
            case Begun(title, number, total):
                self.html.append(f'<h2 id="step{number}">{number}/{total} {escaped(title)}</h2>')
            case Said(markdown):
                self.html.append(markup(markdown))
            case Quoted(place, code, look):
                self.html.append(
                    f"{markup(look) if look else ''}<figure><figcaption>{escaped(place)}</figcaption>"
                    f"<pre><code>{escaped(code)}</code></pre></figure>"
                )
            case Pictured(file, alt):
                self.html.append(picture(file, alt))
            case Shown():
                shown = lesson_text.event(part)
                if shown.strip():
                    self.html.append(f'<pre class="view" tabindex="0">{escaped(dedented(shown))}</pre>')
            case LeftOut(core=core):
                self.html.append(
                    f'<p class="left">A part about {escaped(core)} is left out: it could not run.</p>'
                )
            case Film():
                self.html.append(self._film(part))
            case Question():
                self._question(part)

    def _film(self, film: Film) -> str:
        """A film's place; the last moment in words stands there for print, and without scripts."""
        self.films.append(film.data)
        words = lesson_text.event(film.moved)
        return (
            f'<figure class="film" data-film="{len(self.films) - 1}">'
            f'<pre class="still">{escaped(dedented(words))}</pre></figure>'
        )

    def _question(self, question: Question) -> None:
        number = len(self.answers) + 1
        asked, verdict = question.asked, question.verdict
        films = "".join(self._film(film) for film in question.films)
        answer = "" if verdict is None else f"{inline(verdict.answer)} {inline(verdict.explanation)}"
        self.answers.append(answer)
        if asked.choices:
            replies = question.replies or ("",) * len(asked.choices)
            pairs = enumerate(zip(asked.choices, replies, strict=True))
            ways = "".join(_choice(number, i, choice, reply) for i, (choice, reply) in pairs)
        else:
            ways = '<label>Your prediction: <input type="text" inputmode="numeric" size="8"></label>'
        right = question.letter or (verdict.answer if verdict else "")
        self.html.append(
            f'<section class="question" data-right="{escaped(right)}">'
            f"<p><strong>Question {number}.</strong> {inline(asked.question)}</p>"
            f'<div class="ways">{ways}</div><p class="reply" role="status"></p>'
            f"<details><summary>Show what the machines did</summary>{films}<p>{answer}</p></details>"
            "</section>"
        )


def _choice(question: int, number: int, choice: str, reply: str) -> str:
    letter = "abcdef"[number]
    said = escaped(lesson_text.plain(reply))
    button = f'<input type="radio" name="q{question}" value="{letter}" data-reply="{said}">'
    return f"<label>{button} {letter}) {inline(choice)}</label>"
