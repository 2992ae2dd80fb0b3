"""The page of a handout: HTML with everything in it, and nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import html
import json
import mimetypes
import re
from pathlib import Path

from app.handout.recorder import Film, Part, Performance, Question
from app.text import lesson as lesson_text
from app.text.reports import clean
from lessons import glossary
from lessons.format.parser import TERM
from lessons.play.events import Begun, LeftOut, Pictured, Quoted, Said, Shown

HERE = Path(__file__).resolve().parent
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_INLINE = re.compile(
    r"`([^`]+)`|\*\*([^*]+)\*\*|(?<!\*)\*([^*\n]+)\*|\[([^\]\n]+)\]\((https?://[^)\s]+)\)"
)


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
<title>{_text(lesson.title)}</title>
<style>{(HERE / "page.css").read_text(encoding="utf-8")}</style></head>
<body><main>
<header><h1>{_text(number + lesson.title)}</h1><p>{inline(lesson.summary)}</p>
<p class="meta">{lesson.minutes} minutes. The machines: {_text(cores)}. Drag a slider, or use the arrow
keys on it, to go through what they did; [ and ] go from exit to exit.</p></header>
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
                self.html.append(f'<h2 id="step{number}">{number}/{total} {_text(title)}</h2>')
            case Said(markdown):
                self.html.append(markup(markdown))
            case Quoted(place, code, look):
                self.html.append(
                    f"{markup(look) if look else ''}<figure><figcaption>{_text(place)}</figcaption>"
                    f"<pre><code>{_text(code)}</code></pre></figure>"
                )
            case Pictured(file, alt):
                self.html.append(_picture(file, alt))
            case Shown():
                shown = lesson_text.event(part)
                if shown.strip():
                    self.html.append(f'<pre class="view" tabindex="0">{_text(_dedented(shown))}</pre>')
            case LeftOut(core=core):
                self.html.append(
                    f'<p class="left">A part about {_text(core)} is left out: it could not run.</p>'
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
            f'<pre class="still">{_text(_dedented(words))}</pre></figure>'
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
            f'<section class="question" data-right="{_text(right)}">'
            f"<p><strong>Question {number}.</strong> {inline(asked.question)}</p>"
            f'<div class="ways">{ways}</div><p class="reply" role="status"></p>'
            f"<details><summary>Show what the machines did</summary>{films}<p>{answer}</p></details>"
            "</section>"
        )


def _choice(question: int, number: int, choice: str, reply: str) -> str:
    letter = "abcdef"[number]
    said = _text(lesson_text.plain(reply))
    button = f'<input type="radio" name="q{question}" value="{letter}" data-reply="{said}">'
    return f"<label>{button} {letter}) {inline(choice)}</label>"


def _picture(file: str, alt: str) -> str:
    kind = mimetypes.guess_type(file)[0] or "image/png"
    data = base64.b64encode(Path(file).read_bytes()).decode()
    return f'<figure><img alt="{_text(alt)}" src="data:{kind};base64,{data}"></figure>'


def markup(markdown: str) -> str:
    """A paragraph, list, table or piece of code as HTML."""
    lines = markdown.split("\n")
    if lines[0].startswith("```"):
        return f"<pre><code>{_text(chr(10).join(lines[1:-1]))}</code></pre>"
    if lines[0].startswith(("- ", "1. ")):
        tag = "ul" if lines[0].startswith("- ") else "ol"
        items = re.split(r"\n(?=- |\d+\. )", markdown)
        inner = "".join(f"<li>{inline(re.sub(r'^(- |[0-9]+[.] )', '', item))}</li>" for item in items)
        return f"<{tag}>{inner}</{tag}>"
    if lines[0].startswith("|"):
        return f"<pre>{_text(lesson_text.plain(markdown))}</pre>"
    return f"<p>{inline(markdown)}</p>"


def inline(markdown: str) -> str:
    """Words with emphasis, code, links, and terms of the glossary with their meaning."""
    escaped = html.escape(clean(markdown), quote=False)
    marked = _INLINE.sub(_styled, escaped)
    return TERM.sub(_term, marked)


def _styled(found: re.Match[str]) -> str:
    code, strong, emphasis, words, address = found.groups()
    if code is not None:
        return f"<code>{code.replace('_', '&#95;')}</code>"
    if strong is not None:
        return f"<strong>{strong}</strong>"
    if emphasis is not None:
        return f"<em>{emphasis}</em>"
    return f'<a href="{html.escape(address)}" rel="noreferrer">{words}</a>'


def _term(found: re.Match[str]) -> str:
    meaning = glossary.explain(found.group(1))
    if meaning is None:
        return found.group(1)
    return f'<dfn title="{_text(" ".join(meaning[1].split()))}" tabindex="0">{found.group(1)}</dfn>'


def _text(text: str) -> str:
    """Text for HTML; control characters are shown, not sent."""
    return html.escape(clean(text))


def _dedented(text: str) -> str:
    lines = text.split("\n")
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[indent:] for line in lines)
