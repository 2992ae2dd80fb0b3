"""The classroom's server: the lesson's page, the stream of what the teacher has shown, and answers."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from app.listening import Listen
from app.teacher.audience import Votes
from app.text.html import escaped, inline
from app.web import pieces
from app.web.guard import Guard
from app.web.machines import machines
from app.web.room import Room, encoded
from app.web.server import Background, Running, serve
from cores.machine.report import SessionSnapshot
from lessons.format.script import Ask, Lesson
from lessons.play.events import Asked, Begun, Ended, Event, Loaded, Moved, Verdict
from lessons.play.player import Player

HERE = Path(__file__).resolve().parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LARGEST = 2048
"""Bytes of an answer."""
HEARTBEAT = 20.0
"""Seconds between two signs of life on a quiet stream: so a lost follower is noticed."""
PATH = r"/{token:[a-z0-9]{1,40}}"


class Classroom:
    """A lesson's room, and its pages over HTTP."""

    def __init__(self, lesson: Lesson, where: Listen, most: int) -> None:
        """most: followers at a time."""
        self.room = Room()
        self.most = most
        self.guard = Guard(where, POLICY, most * 6)  # a browser opens six connections at most
        self._page = _page(lesson).encode()
        self._files = {
            "page.js": ("text/javascript", (HERE / "classroom.js").read_bytes()),
            "page.css": ("text/css", (HERE / "classroom.css").read_bytes()),
        }

    def application(self) -> web.Application:
        app = self.guard.application(LARGEST)
        app.add_routes(
            [
                web.get(PATH + "/", self._get_page), web.get(PATH + "/events", self._get_events),
                web.post(PATH + "/answer", self._post_answer),
                web.get(PATH + "/{file:page\\.(js|css)}", self._get_file),
            ]
        )  # fmt: skip
        return app

    async def _get_page(self, request: web.Request) -> web.Response:
        return web.Response(body=self._page, content_type="text/html", charset="utf-8")

    async def _get_file(self, request: web.Request) -> web.Response:
        kind, content = self._files[request.match_info["file"]]
        return web.Response(body=content, content_type=kind, charset="utf-8")

    async def _get_events(self, request: web.Request) -> web.StreamResponse:
        """The stream: all that this follower lacks, now and from now on."""
        room = self.room
        if room.following >= self.most:
            return web.Response(status=503, text="The room is full.\n")
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        await response.prepare(request)
        voter = room.voter(request.query.get("voter", "")[:40])
        place, live = room.place(request.headers.get("Last-Event-ID", "")[:60]), 0
        hello = {"voter": voter, "fresh": place.index == 0}
        room.came()
        try:
            await response.write(encoded("hello", hello))
            while not room.ended:
                version = room.version
                place, live, content = room.lacking(place, live)
                await response.write(content or b":\n\n")
                await room.news(version, HEARTBEAT)
            await response.write(room.lacking(place, live)[2])
        finally:
            room.left()
        return response

    async def _post_answer(self, request: web.Request) -> web.Response:
        try:
            given = json.loads(await request.read())
            voter, number = str(given["voter"]), int(given["question"])
            answer, name = str(given["answer"]), str(given.get("name", ""))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return web.json_response({"refused": "no answer that can be read"}, status=400)
        refused = self.room.answer(voter, number, answer, name)
        return web.json_response({"refused": refused}, status=409 if refused else 200)


def _page(lesson: Lesson) -> str:
    number = f"Lesson {lesson.number}: " if lesson.number else ""
    return (
        (HERE / "classroom.html")
        .read_text(encoding="utf-8")
        .replace("{title}", escaped(number + lesson.title))
        .replace("{summary}", inline(lesson.summary))
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """What the teacher is shown at once. position: of the lesson's item. begins: it begins here, and
    does not go on after a question. marks: may the code say what leaves the guest? letters: the choices
    of the question that waits. now: the machines."""

    position: int
    events: tuple[Event, ...]
    begins: bool
    marks: bool
    step: str
    letters: str
    now: SessionSnapshot


class Class:
    """The audience of a lesson (``app.teacher.audience``), with its server in a thread of its own.

    revealed: is called after each answer that is shown, when what the class said can be saved."""

    def __init__(self, lesson: Lesson, where: Listen, most: int) -> None:
        """Raises InputError where the address cannot be listened at."""
        self.classroom = Classroom(lesson, where, most)
        self.revealed: Callable[[], None] = lambda: None
        self._background = Background()
        self._open: int | None = None  # the position of the question that waits
        application = self.classroom.application()
        try:
            self._running: Running = asyncio.run_coroutine_threadsafe(
                serve(application, self.classroom.guard, where, lets_go=True), self._background.loop
            ).result()
        except BaseException:
            self._background.close()
            raise
        self.address = f"http://{where.shown}:{self._running.port}/{self.classroom.guard.token}/"

    @property
    def following(self) -> int:
        return self.classroom.room.following

    def heard(self, player: Player, events: list[Event]) -> None:
        """Show the class what the teacher has just been shown."""
        if not events:
            return
        self._background.call(
            self._show, Turn(
                player.position, tuple(events), self._open != player.position, not player.conceals,
                player.step[1], _letters(player.question), player.now,
            ),
        )  # fmt: skip
        if any(isinstance(event, Asked) for event in events):
            self._open = player.position
        elif any(isinstance(event, Verdict) for event in events):
            self._open = None
            self.revealed()

    def _show(self, turn: Turn) -> None:
        room = self.classroom.room
        shown = []
        for event in turn.events:
            votes, marks = None, turn.marks
            match event:
                case Asked(question):
                    room.ask(question, turn.letters, turn.step)
                case Verdict(answer=answer):
                    votes = room.reveal(answer[:1] if room.questions[-1].choices else answer)
                case Moved():
                    marks = marks or not turn.begins
                case Ended():
                    pass
                case _:
                    room.turn()
            made = pieces.piece(event, question=len(room.questions), votes=votes, marks=marks)
            if made is not None:
                if isinstance(event, Loaded) or (isinstance(event, Begun) and event.number == 1):
                    made["machines"] = machines(turn.now, marks=marks)
                shown.append(made)
        if shown:
            room.show(turn.position, shown, begins=turn.begins)

    def moved(self, snapshot: SessionSnapshot, *, marks: bool) -> None:
        html = machines(snapshot, marks=marks)
        self._background.call(self.classroom.room.show_live, {"machines": html})

    def votes(self) -> Votes | None:
        return self.classroom.room.votes

    def table(self) -> str:
        """All answers as CSV (RFC 4180)."""
        rows = self._background.ask(lambda: list(self.classroom.room.table()))
        out = io.StringIO()
        csv.writer(out, lineterminator="\r\n").writerows(
            [_unformulated(cell) for cell in row] for row in rows
        )
        return out.getvalue()

    def close(self) -> None:
        """Tell all followers that this is the end, and end the server."""
        self._background.call(self.classroom.room.end)
        asyncio.run_coroutine_threadsafe(self._running.stop(), self._background.loop).result()
        self._background.close()


def _letters(question: Ask | None) -> str:
    return "" if question is None else pieces.LETTERS[: len(question.choices)]


def _unformulated(cell: str) -> str:
    """A cell that a spreadsheet does not take for a formula: a student may have written it."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(cell) else cell


def _is_number(cell: str) -> bool:
    return cell.removeprefix("-").replace(",", "").isdecimal()
