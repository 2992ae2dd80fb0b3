"""The classroom's server, in this process: a class that follows, and visitors who may not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from app.listening import Listen, listen
from app.text.lesson_player import PlainPlay
from app.web.classroom import LARGEST, Class, Classroom
from app.web.guard import MOST_UNPROVEN
from app.web.server import Running, serve
from lessons.format.parser import parse_text
from lessons.library import find
from lessons.play.stage import open_stage

HERE = Listen("127.0.0.1", 0)
FOLLOWERS = 100


class Site:
    """A classroom that is served, and a client."""

    def __init__(self, room: Classroom, running: Running, client: aiohttp.ClientSession) -> None:
        self.classroom, self.room, self.client = room, room.room, client
        self.port = running.port
        self.responses: list[aiohttp.ClientResponse] = []
        self.origin = f"http://127.0.0.1:{running.port}"
        self.url = f"{self.origin}/{room.guard.token}/"

    def show(self, position: int, text: str) -> None:
        self.room.show(position, [{"kind": "words", "html": text}], begins=True)

    async def ask(self, method: str, address: str, **headers: str) -> aiohttp.ClientResponse:
        """A response, which is closed with the test."""
        return self._kept(await self.client.request(method, address, headers=headers))

    def _kept(self, response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
        self.responses.append(response)
        return response

    async def answer(self, body: bytes, **headers: str) -> aiohttp.ClientResponse:
        return self._kept(await self.client.post(self.url + "answer", data=body, headers=headers))


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    room = Classroom(find("two-ways"), HERE, FOLLOWERS + 1)
    running = await serve(room.application(), room.guard, HERE, lets_go=True)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as client:
        made = Site(room, running, client)
        yield made
        room.room.end()
        for response in made.responses:
            response.close()
    await running.stop()


class Follower:
    """One stream of events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.id = ""

    async def next(self) -> tuple[str, dict[str, str]]:
        """The next event that is no sign of life."""
        event = ""
        while True:
            line = (await self._response.content.readline()).decode()
            assert line, "the stream has ended"
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "id":
                self.id = value
            elif name == "event":
                event = value
            elif name == "data":
                return event, json.loads(value)

    def leave(self) -> None:
        self._response.close()


async def follow(site: Site, voter: str = "", last: str = "") -> Follower:
    headers = {"Last-Event-ID": last} if last else {}
    return Follower(await site.ask("GET", f"{site.url}events?voter={voter}", **headers))


async def test_the_page_has_everything_from_here(site: Site) -> None:
    """The page, its script and its style are there, with headers that let nothing else in."""
    for name, kind in (("", "text/html"), ("page.js", "text/javascript"), ("page.css", "text/css")):
        response = await site.ask("GET", site.url + name)
        assert (response.status, response.content_type) == (200, kind)
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "Set-Cookie" not in response.headers
        text = await response.text()
        assert "http://" not in text
        assert "https://" not in text


async def test_a_hundred_followers_get_each_step(site: Site) -> None:
    """What the teacher shows reaches a hundred followers; a late-comer gets all of it, and one who was
    away what it lacks."""
    followers = await asyncio.gather(*(follow(site) for _ in range(FOLLOWERS)))
    hellos = [await one.next() for one in followers]
    assert len({data["voter"] for _, data in hellos}) == site.room.following == FOLLOWERS
    site.show(1, "one")
    got = await asyncio.gather(*(one.next() for one in followers))
    assert all(data["html"] == "one" for _, data in got)
    away = followers.pop()
    away.leave()
    while site.room.following == FOLLOWERS:  # its end is noticed
        await asyncio.sleep(0)
    site.show(2, "two")
    late = await follow(site)
    assert [(await late.next())[0], (await late.next())[1]["html"], (await late.next())[1]["html"]] == [
        "hello", "one", "two",
    ]  # fmt: skip
    again = await follow(site, hellos[-1][1]["voter"], away.id)
    assert (await again.next())[1]["voter"] == hellos[-1][1]["voter"]
    assert (await again.next())[1]["html"] == "two"
    site.room.end()
    assert [event for event, _ in [await late.next(), await again.next()]] == ["end", "end"]


@pytest.mark.parametrize("path", ["/", "/x/", "/events", "/abcdefghijkl/events", "/../etc/passwd"])
async def test_without_the_token_there_is_nothing(site: Site, path: str) -> None:
    """Every address without the token has the same answer, and the connection ends."""
    for method in ("GET", "POST", "OPTIONS"):
        response = await site.ask(method, site.origin + path)
        assert (response.status, await response.text()) == (404, "There is nothing here.\n")
        assert response.headers["Connection"] == "close"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[oops"}, 403),
        ({"Host": "elsewhere.example", "Origin": "http://elsewhere.example"}, 403),
    ],
)
async def test_another_page_may_not_answer(site: Site, headers: dict[str, str], status: int) -> None:
    """An answer needs our own origin, and on loopback a name of this computer."""
    assert (await site.answer(b"{}", **headers)).status == status
    read = await site.ask("GET", site.url, Origin="http://elsewhere.example")
    assert read.status == 403


async def test_answers_that_are_none(site: Site) -> None:
    """Messages that are too long, or no answer, are refused; a right one is taken."""
    voter = (await (await follow(site)).next())[1]["voter"]
    number = site.room.ask("Who?", "ab", "One")
    good = json.dumps({"voter": voter, "question": number, "answer": "b"}).encode()
    for body, status in (
        (b"x" * (LARGEST + 1), 413), (b"", 400), (b"[" * 1000, 400), (b"[1]", 400), (b"\xff", 400),
        (b'{"voter": 1}', 400), (good.replace(b'"b"', b'"z"'), 409), (good, 200),
    ):  # fmt: skip
        assert (await site.answer(body, Origin=site.origin)).status == status
    assert site.room.votes is not None
    assert site.room.votes.counts == (("a", 0), ("b", 1))
    long = await site.ask("GET", site.url, X="y" * 20000)
    assert long.status == 400


async def test_a_thousand_connections_shut_nobody_out(site: Site) -> None:
    """A thousand connections that ask for nothing are ended, oldest first; a follower is served."""
    here = await follow(site)
    await here.next()
    made = []
    try:
        for _ in range(1000):
            connection = socket.socket()
            connection.setblocking(False)
            made.append(connection)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", site.port))
        student = await follow(site)
        assert (await student.next())[0] == "hello"
        assert len(site.classroom.guard._unproven) <= MOST_UNPROVEN
        site.show(1, "one")
        assert (await here.next())[1]["html"] == (await student.next())[1]["html"] == "one"
    finally:
        for connection in made:
            connection.close()


async def test_a_full_room_says_so(site: Site) -> None:
    """One follower more than there is room for is refused, and those who are there stay."""
    site.classroom.most = 2
    followers = [await follow(site), await follow(site)]
    async with site.client.get(site.url + "events") as refused:
        assert (refused.status, await refused.text()) == (503, "The room is full.\n")
    for one in followers:
        assert (await one.next())[0] == "hello"
    site.show(1, "one")
    assert [(await one.next())[1]["html"] for one in followers] == ["one", "one"]


def test_a_class_follows_a_lesson(capsys: pytest.CaptureFixture[str]) -> None:
    """A whole lesson reaches the room: steps, words, machines with gutters, questions and answers."""
    lesson = find("first-call")
    everyone = Class(lesson, HERE, 5)
    try:
        saved: list[str] = []
        everyone.revealed = lambda: saved.append(everyone.table())
        PlainPlay(lesson, interactive=False, audience=everyone).run()
        room = everyone.classroom.room
        everyone._background.ask(lambda: None)  # what was said before has been done
        told = "".join(content.decode() for _, content in room._pieces)
        with contextlib.closing(open_stage(lesson.setup)) as stage:
            everyone.moved(stage.snapshot(), marks=False)
        live = everyone._background.ask(lambda: room._live)
        assert live is not None
        assert b"The program" in live[1]
        assert b"leaves the guest" not in live[1]
        assert everyone.table().startswith("question,step,text,")
        assert len(saved) == len(room.questions)
    finally:
        everyone.close()
    assert told.count('"kind":"step"') == len(lesson.headings)
    assert all(question.right for question in room.questions)
    assert "leaves the guest" in told
    assert 'aria-current=\\"step\\"' in told
    assert "<dt>Guest OS</dt>" in told
    assert "Lesson 2" in capsys.readouterr().out


def test_a_hostile_lesson_stays_text() -> None:
    """Markup of a lesson, of a guest's name and of its output is shown as text."""
    head = '+++\ntitle = "<b>"\nsummary = "S"\nminutes = 5\nguest = "hello"\n+++\n## <i>\n'
    lesson = parse_text(head + "A <script>.\n\n```run\nend = true\n```\nEnd.\n", "x.md")
    everyone = Class(lesson, HERE, 5)
    try:
        PlainPlay(lesson, interactive=False, audience=everyone).run()
        everyone._background.ask(lambda: None)
        told = "".join(content.decode() for _, content in everyone.classroom.room._pieces)
    finally:
        everyone.close()
    assert "<script" not in told
    assert "&lt;script&gt;" in told
    assert "<i>" not in told


def test_where_to_listen() -> None:
    """An address with a port; what is none is refused with an example."""
    assert listen("127.0.0.1:80") == Listen("127.0.0.1", 80)
    assert listen("[::1]:80").is_loopback
    assert not listen("0.0.0.0:80").is_loopback
    for wrong in ("", "80", "127.0.0.1", "x:80", "1.2.3.4:70000", "1.2.3.4:-1", "1.2.3.4:\u0663"):
        with pytest.raises(ValueError, match=r"no ADDRESS|no address"):
            listen(wrong)
