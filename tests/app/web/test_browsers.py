"""The classroom and the served interface in headless Chromium, with two browsers at once."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.listening import Listen
from app.main import again
from app.web.classroom import Class
from lessons.library import find
from lessons.play.player import Player
from lessons.play.stage import AnyStage, open_stage
from tests.browser import browsers, needs_browser

pytestmark = [pytest.mark.full, needs_browser]
HERE = Listen("127.0.0.1", 0)
QUESTIONS = "document.querySelectorAll('.question').length"


class Teacher:
    """A lesson played to a class."""

    def __init__(self, name: str, stage: AnyStage, everyone: Class) -> None:
        self.everyone = everyone
        self.player = Player(find(name), stage)

    def to_a_question(self) -> None:
        while self.player.question is None and not self.player.ended:
            self.everyone.heard(self.player, self.player.proceed())

    def reveal(self) -> None:
        self.everyone.heard(self.player, self.player.answer(None))
        while self.player.moving:
            self.everyone.heard(self.player, self.player.proceed())


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    lesson = find("two-ways")
    stage = open_stage(lesson.setup)
    everyone = Class(lesson, HERE, 10)
    yield Teacher("two-ways", stage, everyone)
    everyone.close()
    stage.close()


def test_a_class_of_two(teacher: Teacher, tmp_path: Path) -> None:
    """A laptop and a phone follow: text and machines as HTML, votes, the answer, looking back, a lost
    connection, a late start, and the end."""
    address = teacher.everyone.address
    with browsers(tmp_path, (1280, 800), (500, 900)) as (laptop, phone):
        laptop.open(address)
        laptop.wait("document.getElementById('state').textContent.startsWith('You follow')")
        teacher.to_a_question()
        laptop.wait(f"{QUESTIONS} === 1")
        phone.open(address)  # late
        phone.wait(f"{QUESTIONS} === 1")
        assert laptop.text("#text") == phone.text("#text")
        assert "mov ecx, 0xa" in laptop.text("#machines .code")
        assert laptop.run("return document.querySelectorAll('#machines th[scope]').length > 10")
        assert phone.run("return document.documentElement.scrollWidth <= innerWidth")

        assert {"heading", "table", "rowheader", "columnheader", "button"} <= laptop.roles

        laptop.click(".question button:nth-of-type(1)")
        laptop.click(".question button:nth-of-type(2)")  # thinks better of it
        phone.click(".question button:nth-of-type(1)")
        for browser in (laptop, phone):
            browser.wait(
                "document.querySelector('.question [role=status]').textContent.includes('Taken')"
            )
        votes = teacher.everyone.votes()
        assert votes is not None
        assert (votes.counts, votes.given, votes.following) == ((("a", 1), ("b", 1), ("c", 0)), 2, 2)

        phone.tell("Network.enable")
        phone.run("stream.close()")  # a connection that is lost
        teacher.reveal()
        laptop.wait("document.querySelector('.answer .votes')")
        assert "2 of" in laptop.text(".answer .votes")
        assert laptop.run("return document.querySelector('.question button').disabled")
        phone.run("location.reload()")
        phone.wait("document.querySelector('.answer .votes')")
        teacher.to_a_question()
        for browser in (laptop, phone):
            browser.wait(f"{QUESTIONS} === 2")

        assert "where the teacher is" in laptop.text("#moment")
        laptop.click("#earlier")
        assert "as it was then" in laptop.text("#moment")
        laptop.click("#follow")
        assert "where the teacher is" in laptop.text("#moment")

        teacher.player.back()
        teacher.to_a_question()
        laptop.wait(f"{QUESTIONS} === 2")
        assert laptop.text("#text") == phone.text("#text")
        origin = address.rsplit("/", 2)[0]
        assert all(name.startswith(origin) for name in laptop.fetched + phone.fetched)
        assert laptop.run("return document.cookie") == ""


def test_two_visitors(tmp_path: Path) -> None:
    """Two browsers have interfaces of their own, drawn with fonts from here; a third is told that all
    places are taken. The sessions end with the server."""
    command = again("serve", "hello", "--listen", "127.0.0.1:0", "--most", "2")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = (re.search(r"http://\S+", line) for line in server.stdout)
        address = next(match[0] for match in found if match)
        with browsers(tmp_path, (1200, 800), (900, 700), (500, 500)) as (one, two, late):
            for browser in (one, two):
                browser.open(address)
                browser.wait("document.body.classList.contains('-first-byte')")
            late.open(address)
            assert "All places are taken" in late.text("body")
            assert one.run("return [...document.fonts].every(font => font.status === 'loaded')")
            assert all(name.startswith(address) for name in one.fetched)
            one.press("o", "textarea")
            children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            assert len(children) == 2
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0
            assert not any(Path(f"/proc/{child}").exists() for child in children)
            one.wait("document.body.classList.contains('-closed')")
