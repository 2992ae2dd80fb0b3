"""The pieces of a lesson's page in the classroom: an event of the player as HTML."""

from __future__ import annotations

from app.teacher.audience import Votes
from app.text import lesson as lesson_text
from app.text.html import dedented, escaped, inline, markup, picture
from app.web.machines import machines
from app.web.room import Piece
from lessons.play.events import (
    Asked,
    Begun,
    Broken,
    Ended,
    Event,
    Kept,
    LeftOut,
    Loaded,
    Looked,
    Moved,
    Noted,
    Paused,
    Pictured,
    Quoted,
    Said,
    Shown,
    Verdict,
)

LETTERS = "abcdef"


def piece(event: Event, *, question: int, votes: Votes | None, marks: bool) -> Piece | None:
    """What a page shows of an event; None for nothing. question: the number of the one that is asked,
    or answered, with its votes. marks: may the code say what leaves the guest?"""
    match event:
        case Begun(title, number, total):
            return {"kind": "step", "html": f"<h2>{number}/{total} {escaped(title)}</h2>"}
        case Said(markdown):
            return {"kind": "words", "html": markup(markdown)}
        case Quoted(place, code, look):
            said = markup(look) if look else ""
            shown = f"<pre tabindex=0><code>{escaped(code)}</code></pre>"
            return {
                "kind": "words",
                "html": f"{said}<figure><figcaption>{escaped(place)}</figcaption>{shown}</figure>",
            }
        case Pictured(file, alt):
            return {"kind": "words", "html": picture(file, alt)}
        case Moved(before, now):
            words = escaped(dedented(lesson_text.event(event)))
            return {
                "kind": "moment", "html": f"<pre>{words}</pre>",
                "machines": machines(now, before, marks=marks),
            }  # fmt: skip
        case Shown(view=view):
            if view in ("registers", "code", "rings"):  # the machines beside the text show these
                return None
            shown = lesson_text.event(event)
            return (
                {"kind": "words", "html": f"<pre tabindex=0>{escaped(dedented(shown))}</pre>"}
                if shown.strip()
                else None
            )
        case Asked(text, choices):
            return {
                "kind": "question", "question": question, "html": f"<p>{inline(text)}</p>",
                "choices": [[LETTERS[i], inline(choice)] for i, choice in enumerate(choices)],
            }  # fmt: skip
        case Verdict(answer=answer, explanation=explanation):
            bars = "" if votes is None else _bars(votes)
            html = f"<p><strong>{inline(answer)}</strong></p>{bars}<p>{inline(explanation)}</p>"
            return {"kind": "answer", "question": question, "html": html}
        case LeftOut() | Loaded() | Broken() | Looked():
            words = lesson_text.event(event).strip().strip("[]")
            return {"kind": "words", "html": f'<p class="left">{escaped(words)}</p>'} if words else None
        case Noted() | Paused() | Kept() | Ended():
            return None


def _bars(votes: Votes) -> str:
    """The votes as a table, with a bar in each row."""
    most = max((count for _, count in votes.counts), default=0) or 1
    rows = "".join(
        f'<tr><th scope="row">{escaped(answer)}</th><td>{count}</td>'
        f'<td><meter min="0" max="{most}" value="{count}" aria-hidden="true"></meter></td></tr>'
        for answer, count in votes.counts
    )
    caption = f"{votes.given} of {votes.following} answered"
    return f'<table class="votes"><caption>{caption}</caption><tbody>{rows}</tbody></table>'
