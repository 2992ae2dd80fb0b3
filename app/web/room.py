"""A class: what it has been shown so far, who follows, and what they answered.

What is shown is a list of pieces that is encoded once, for all. Each follower has a place in it, and is
sent what it lacks; when the teacher goes back, the list is cut, and every follower is told where. All
calls come from the server's thread, but ``votes``, which is replaced as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.teacher.audience import Votes

LONGEST_NAME = 40
LONGEST_ANSWER = 20
MOST_VOTERS = 2000
"""Names of voters that are given out; who comes later follows without a vote."""
MOST_NUMBERS = 6
"""Different numbers that the votes for a number list."""

Piece = dict[str, object]


@dataclass(frozen=True, slots=True)
class Place:
    """A follower's: in which ``epoch`` (cuts so far) it has how many pieces."""

    epoch: int = 0
    index: int = 0


@dataclass(slots=True)
class Question:
    """answers: voter -> answer. choices: letters, "" for a number. right: once it is revealed."""

    number: int
    text: str
    choices: str
    step: str
    answers: dict[str, str] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    right: str | None = None


class Room:
    """following: followers who are connected now. votes: of the question of this turn. version: grows
    with everything that is shown."""

    def __init__(self) -> None:
        self.run = secrets.token_hex(4)
        self.following = self.version = 0
        self.votes: Votes | None = None
        self.questions: list[Question] = []
        self.names: dict[str, str] = {}
        self.ended = False
        self._pieces: list[tuple[int, bytes]] = []
        self._cuts: list[int] = []
        self._live: tuple[int, bytes] | None = None
        self._lives = 0
        self._news = asyncio.Event()

    # What is shown

    def show(self, position: int, pieces: list[Piece], *, begins: bool) -> None:
        """Show more. position: of the lesson's item that they come from. begins: they begin that item,
        so that what was shown from there on is from before the teacher went back."""
        keep = len(self._pieces)
        while keep and self._pieces[keep - 1][0] > position - begins:
            keep -= 1
        if keep < len(self._pieces):
            del self._pieces[keep:]
            self._cuts.append(keep)
            self.votes = None
        for piece in pieces:
            self._pieces.append((position, encoded("piece", piece)))
        self._live = None
        self._tell()

    def show_live(self, piece: Piece) -> None:
        """Show the machines as the teacher drives them; the next piece puts an end to it."""
        self._lives += 1
        self._live = (self._lives, encoded("live", piece))
        self._tell()

    def end(self) -> None:
        self.ended = True
        self._tell()

    def _tell(self) -> None:
        self.version += 1
        self._news.set()
        self._news = asyncio.Event()

    async def news(self, seen: int, seconds: float) -> None:
        """Wait until ``version`` is no longer ``seen``, at most so long."""
        if self.version == seen:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), seconds)

    # Followers

    def place(self, last: str) -> Place:
        """Where a follower was that comes back, from the id of the last message that it got."""
        run, _, rest = last.partition(".")
        epoch, _, index = rest.partition(".")
        readable = rest.isascii() and epoch.isdecimal() and index.isdecimal() and len(rest) <= 20
        if run != self.run or not readable:
            return Place(len(self._cuts), 0)
        place = Place(int(epoch), int(index))
        return place if place.epoch <= len(self._cuts) else Place(len(self._cuts), 0)

    def lacking(self, place: Place, live: int) -> tuple[Place, int, bytes]:
        """What a follower at that place lacks, and where it is then. live: number of the newest view of
        the machines that it has seen."""
        parts: list[bytes] = []
        index = min(place.index, len(self._pieces)) if place.epoch == len(self._cuts) else place.index
        if cuts := self._cuts[place.epoch :]:
            index = min(index, *cuts)
        if cuts or index != place.index:
            parts.append(encoded("cut", {"keep": index}))
        epoch = len(self._cuts)
        for number, (_, content) in enumerate(self._pieces[index:], index + 1):
            parts.append(b"id: %s.%d.%d\n" % (self.run.encode(), epoch, number) + content)
        if self._live is not None and self._live[0] > live:
            live = self._live[0]
            parts.append(self._live[1])
        if self.ended:
            parts.append(encoded("end", {}))
        return Place(epoch, len(self._pieces)), live, b"".join(parts)

    def voter(self, known: str) -> str:
        """The name under which a follower votes: that which it was given before, or a new one; "" where
        too many were given out."""
        if known in self.names:
            return known
        if len(self.names) >= MOST_VOTERS:
            return ""
        new = secrets.token_hex(8)
        self.names[new] = ""
        return new

    def came(self) -> None:
        self.following += 1
        self._count()

    def left(self) -> None:
        self.following -= 1
        self._count()

    # Questions

    def ask(self, text: str, choices: str, step: str) -> int:
        """A question is put; its number, from 1."""
        self.questions.append(Question(len(self.questions) + 1, text, choices, step))
        self._count(opened=True)
        return len(self.questions)

    def answer(self, voter: str, number: int, answer: str, name: str) -> str:
        """Take an answer; "" or the reason why not. A voter's last one before the end counts."""
        if voter not in self.names:
            return "this browser is not known here: load the page again"
        if not self.questions or number != len(self.questions) or self.questions[-1].right is not None:
            return "this question is closed"
        question = self.questions[-1]
        answer = answer.strip().lower()
        if question.choices:
            if len(answer) != 1 or answer not in question.choices:
                return f"one of {', '.join(question.choices)}"
        else:
            try:
                answer = f"{int(answer[:LONGEST_ANSWER].replace(',', ''), 0):,}"
            except ValueError:
                return "a whole number"
        self.names[voter] = "".join(c for c in name if c.isprintable())[:LONGEST_NAME].strip()
        question.answers[voter] = answer
        question.times[voter] = time.time()
        self._count()
        return ""

    def reveal(self, right: str) -> Votes | None:
        """The question that was put last is answered. right: the letter, or the number."""
        if self.questions and self.questions[-1].right is None:
            self.questions[-1].right = right
            self._count()
        return self.votes

    def turn(self) -> None:
        """The lesson goes on: the votes are those of an earlier turn."""
        self.votes = None

    def _count(self, *, opened: bool = False) -> None:
        if not self.questions or (self.votes is None and not opened):
            return
        question = self.questions[-1]
        found = Counter(question.answers.values())
        counts = (
            [(letter, found[letter]) for letter in question.choices]
            if question.choices
            else found.most_common(MOST_NUMBERS)
        )
        self.votes = Votes(tuple(counts), len(question.answers), self.following)

    def table(self) -> Iterator[tuple[str, ...]]:
        """All answers, a row each, for a spreadsheet."""
        yield ("question", "step", "text", "student", "name", "answer", "right", "time")
        students = {voter: str(n) for n, voter in enumerate(self.names, 1)}
        for q in self.questions:
            for voter, answer in q.answers.items():
                right = "" if q.right is None else "yes" if answer == q.right else "no"
                when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(q.times[voter]))
                name = self.names[voter]
                yield (str(q.number), q.step, q.text, students[voter], name, answer, right, when)


def encoded(event: str, value: Piece) -> bytes:
    """A message of a server-sent event stream (WHATWG HTML, 9.2.6)."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event}\ndata: {data}\n\n".encode()
